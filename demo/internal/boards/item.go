// Package boards is the service behind the shared board: items that anybody
// may read and add to, and the items and boards of each user, kept in a
// MongoDB-protocol store and served as JSON. [NewHandler] makes the HTTP side,
// [Connect] the store side.
package boards

import (
	"crypto/rand"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Item is one thing that somebody pasted. The order of the fields is the order
// in the JSON, and the lab's document shows it.
type Item struct {
	ObjectID  bson.ObjectID `json:"_id" bson:"_id"`
	Owner     string        `json:"owner" bson:"owner"`
	Type      string        `json:"type" bson:"type"`
	Raw       string        `json:"raw" bson:"raw"`
	Name      string        `json:"name" bson:"name"`
	ID        string        `json:"id" bson:"id"`
	CreatedAt string        `json:"created_at" bson:"created_at"`
}

// Board is a named list of items (their short ids) of one user.
type Board struct {
	ObjectID    bson.ObjectID `json:"_id" bson:"_id"`
	Name        string        `json:"name" bson:"name"`
	Description string        `json:"description" bson:"description"`
	Private     bool          `json:"private" bson:"private"`
	Items       []string      `json:"items" bson:"items"`
	ID          string        `json:"id" bson:"id"`
	CreatedAt   string        `json:"created_at" bson:"created_at"`
	Owner       string        `json:"owner" bson:"owner"`
}

// anonymous owns what nobody signed, as in the lab's document.
const anonymous = "anonymous"

// stamp gives an item its identity: whatever ids and times a client sent are
// replaced.
func (it *Item) stamp(owner string, now time.Time) {
	it.ObjectID, it.ID, it.CreatedAt, it.Owner = bson.NewObjectIDFromTimestamp(now), newShortID(), timestamp(now), owner
}

// stamp gives a board its identity, as [Item.stamp] does.
func (b *Board) stamp(owner string, now time.Time) {
	b.ObjectID, b.ID, b.CreatedAt, b.Owner = bson.NewObjectIDFromTimestamp(now), newShortID(), timestamp(now), owner
	if b.Items == nil {
		b.Items = []string{} // "items": [] rather than null
	}
}

// timestamp is RFC 3339 with whole seconds and a numeric zone: +00:00, not Z.
func timestamp(t time.Time) string {
	return t.UTC().Format("2006-01-02T15:04:05-07:00")
}

// shortIDLetters are the letters of short ids; newShortID needs them to be at
// most 64.
const shortIDLetters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// newShortID is eight random letters and digits: 47 bits, enough for a board
// that people read.
func newShortID() string {
	id := make([]byte, 0, 8)
	var buf [16]byte
	for {
		_, _ = rand.Read(buf[:]) // never fails since Go 1.24
		for _, b := range buf {
			// Six bits, thrown away if they name no letter: all are equally likely.
			if i := int(b & 63); i < len(shortIDLetters) {
				id = append(id, shortIDLetters[i])
			}
			if len(id) == cap(id) {
				return string(id)
			}
		}
	}
}
