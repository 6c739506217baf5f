package boards

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// ErrNotFound is what the store answers for an id that it does not hold.
var ErrNotFound = errors.New("not found")

// listLimit bounds every list: the newest so many are served.
const listLimit = 500

// StoreConfig says where the store is. The names in brackets are the
// environment variables of the original.
type StoreConfig struct {
	Addr     string // host:port (MONGODB_SERVICE_HOST, MONGODB_SERVICE_PORT)
	Database string // "boardsDevelopment" if empty (MONGODB_DATABASE)
	User     string // empty: no authentication (MONGODB_USEAUTH, MONGODB_USER)
	Password string // (MONGODB_PASSWORD)
	// Wait is how long an operation waits for a store that is away, 5 s if zero.
	Wait time.Duration
}

// Store keeps items and boards. It is safe for concurrent use, connects when
// it is first needed, and again whenever the connection is lost.
type Store struct {
	client *mongo.Client
	shared *mongo.Collection
	items  *mongo.Collection
	boards *mongo.Collection
}

// Connect prepares a store. It does not wait for the server: a service that
// starts before its database serves errors in words until the database comes.
func Connect(cfg StoreConfig) (*Store, error) {
	if cfg.Database == "" {
		cfg.Database = "boardsDevelopment"
	}
	if cfg.Wait == 0 {
		cfg.Wait = 5 * time.Second
	}
	opts := options.Client().
		SetHosts([]string{cfg.Addr}).
		SetDirect(true).
		SetAppName("boards").
		SetServerSelectionTimeout(cfg.Wait).
		SetConnectTimeout(cfg.Wait).
		SetTimeout(2 * cfg.Wait).
		SetMaxPoolSize(32).
		// One monitoring connection that asks now and then; FerretDB cannot stream.
		SetServerMonitoringMode(options.ServerMonitoringModePoll)
	if cfg.User != "" {
		opts.SetAuth(options.Credential{Username: cfg.User, Password: cfg.Password, AuthSource: cfg.Database})
	}
	client, err := mongo.Connect(opts)
	if err != nil {
		return nil, fmt.Errorf("boards: store at %s: %w", cfg.Addr, err)
	}
	db := client.Database(cfg.Database)
	return &Store{
		client: client,
		shared: db.Collection("shared_items"),
		items:  db.Collection("items"),
		boards: db.Collection("boards"),
	}, nil
}

// Close closes the connections to the store.
func (s *Store) Close(ctx context.Context) error {
	if err := s.client.Disconnect(ctx); err != nil {
		return fmt.Errorf("boards: disconnect from the store: %w", err)
	}
	return nil
}

// again runs op, and once more if the connection broke under it. The driver
// retries by itself only against servers with sessions, which FerretDB does not
// have, and a mesh that changes its policy resets connections. Every op given
// to it may run twice.
func again(ctx context.Context, op func() error) error {
	err := op()
	if mongo.IsNetworkError(err) && ctx.Err() == nil {
		err = op()
	}
	return err
}

// list returns the matching documents, oldest first.
//
// A decision: the original sorts newest first, yet the lab's document prints
// the older item first. The document is what a user holds in his hands, so its
// order wins. The query still asks for the newest, so that a full board loses
// its oldest items and not its latest.
func list[T any](ctx context.Context, c *mongo.Collection, match bson.D) ([]T, error) {
	docs := []T{} // "[]" rather than null
	err := again(ctx, func() error {
		cur, err := c.Find(ctx, match, options.Find().
			// Times have whole seconds; the object id's counter orders within one.
			SetSort(bson.D{{Key: "created_at", Value: -1}, {Key: "_id", Value: -1}}).
			SetLimit(listLimit))
		if err != nil {
			return err
		}
		return cur.All(ctx, &docs)
	})
	if err != nil {
		return nil, fmt.Errorf("boards: list %s: %w", c.Name(), err)
	}
	slices.Reverse(docs)
	return docs, nil
}

// add stores a document whose _id is already chosen, so that the second try of
// an insert whose answer was lost finds it there.
func add(ctx context.Context, c *mongo.Collection, doc any) error {
	tries := 0
	err := again(ctx, func() error {
		tries++
		_, err := c.InsertOne(ctx, doc)
		if tries > 1 && mongo.IsDuplicateKeyError(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("boards: add to %s: %w", c.Name(), err)
	}
	return nil
}

// get returns the document with a short id that belongs to owner.
func get[T any](ctx context.Context, c *mongo.Collection, owner, id string) (T, error) {
	var doc T
	err := again(ctx, func() error { return c.FindOne(ctx, mine(owner, id)).Decode(&doc) })
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		return doc, fmt.Errorf("boards: %s of %q in %s: %w", id, owner, c.Name(), ErrNotFound)
	case err != nil:
		return doc, fmt.Errorf("boards: get from %s: %w", c.Name(), err)
	}
	return doc, nil
}

// set changes fields of the document with a short id that belongs to owner.
func set(ctx context.Context, c *mongo.Collection, owner, id string, fields bson.D) error {
	var res *mongo.UpdateResult
	err := again(ctx, func() (err error) {
		res, err = c.UpdateOne(ctx, mine(owner, id), bson.D{{Key: "$set", Value: fields}})
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("boards: update in %s: %w", c.Name(), err)
	case res.MatchedCount == 0:
		return fmt.Errorf("boards: %s of %q in %s: %w", id, owner, c.Name(), ErrNotFound)
	}
	return nil
}

// remove deletes the document with a short id that belongs to owner, if it is
// there.
func remove(ctx context.Context, c *mongo.Collection, owner, id string) error {
	err := again(ctx, func() error {
		_, err := c.DeleteOne(ctx, mine(owner, id))
		return err
	})
	if err != nil {
		return fmt.Errorf("boards: delete from %s: %w", c.Name(), err)
	}
	return nil
}

func mine(owner, id string) bson.D {
	return bson.D{{Key: "id", Value: id}, {Key: "owner", Value: owner}}
}
