package boards

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// SharedItems lists the items that everybody sees, oldest first.
func (s *Store) SharedItems(ctx context.Context) ([]Item, error) {
	return list[Item](ctx, s.shared, bson.D{})
}

// AddSharedItem adds an item for everybody.
func (s *Store) AddSharedItem(ctx context.Context, it Item) error {
	return add(ctx, s.shared, it)
}

// Items lists the items of a user, oldest first.
func (s *Store) Items(ctx context.Context, owner string) ([]Item, error) {
	return list[Item](ctx, s.items, bson.D{{Key: "owner", Value: owner}})
}

// AddItem adds an item of its owner.
func (s *Store) AddItem(ctx context.Context, it Item) error {
	return add(ctx, s.items, it)
}

// Item returns one item of a user, or [ErrNotFound].
func (s *Store) Item(ctx context.Context, owner, id string) (Item, error) {
	return get[Item](ctx, s.items, owner, id)
}

// UpdateItem changes the type, text and name of a user's item, or returns
// [ErrNotFound].
func (s *Store) UpdateItem(ctx context.Context, owner, id string, it Item) error {
	return set(ctx, s.items, owner, id, bson.D{
		{Key: "type", Value: it.Type}, {Key: "raw", Value: it.Raw}, {Key: "name", Value: it.Name},
	})
}

// DeleteItem deletes an item of a user, if it is there.
func (s *Store) DeleteItem(ctx context.Context, owner, id string) error {
	return remove(ctx, s.items, owner, id)
}

// Boards lists the boards of a user, oldest first.
func (s *Store) Boards(ctx context.Context, owner string) ([]Board, error) {
	return list[Board](ctx, s.boards, bson.D{{Key: "owner", Value: owner}})
}

// AddBoard adds a board of its owner.
func (s *Store) AddBoard(ctx context.Context, b Board) error {
	return add(ctx, s.boards, b)
}

// Board returns one board of a user, or [ErrNotFound].
func (s *Store) Board(ctx context.Context, owner, id string) (Board, error) {
	return get[Board](ctx, s.boards, owner, id)
}

// UpdateBoard changes the name, description, privacy and items of a user's
// board, or returns [ErrNotFound].
func (s *Store) UpdateBoard(ctx context.Context, owner, id string, b Board) error {
	items := b.Items
	if items == nil {
		items = []string{}
	}
	return set(ctx, s.boards, owner, id, bson.D{
		{Key: "name", Value: b.Name}, {Key: "description", Value: b.Description},
		{Key: "private", Value: b.Private}, {Key: "items", Value: items},
	})
}

// DeleteBoard deletes a board of a user, if it is there; its items stay.
func (s *Store) DeleteBoard(ctx context.Context, owner, id string) error {
	return remove(ctx, s.boards, owner, id)
}
