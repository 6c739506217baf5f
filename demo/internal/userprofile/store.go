package userprofile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// ErrNotFound is what the store answers for an id that it does not hold.
var ErrNotFound = errors.New("not found")

// listLimit bounds the list of users.
const listLimit = 500

// Photo is a picture with the file name it came under.
type Photo struct {
	FileName string
	Image    []byte
}

// Store keeps profiles and photos in an SQL database. It is safe for
// concurrent use.
type Store struct {
	db     *sql.DB
	schema []string

	mu    sync.Mutex
	ready bool // the schema is there
}

// OpenSQLite opens the file userprofile.db in a directory, which is made if
// missing.
func OpenSQLite(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("userprofile: make the data directory: %w", err)
	}
	dsn := url.URL{
		Scheme: "file",
		Opaque: filepath.Join(dir, "userprofile.db"),
		RawQuery: url.Values{"_pragma": {
			// The busy handler first: the change to a write-ahead log needs it.
			"busy_timeout(5000)", "journal_mode(wal)", "synchronous(normal)", "foreign_keys(1)",
		}}.Encode(),
	}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("userprofile: open sqlite: %w", err)
	}
	db.SetMaxOpenConns(4)
	return &Store{db: db, schema: schema("BLOB")}, nil
}

// OpenPostgres prepares a store in the PostgreSQL database that a URL (or a
// key=value string) names. It does not wait for the server: requests fail until
// it can be reached.
func OpenPostgres(conn string) (*Store, error) {
	cfg, err := pgx.ParseConfig(conn)
	if err != nil {
		return nil, fmt.Errorf("userprofile: %w", err) // pgx leaves the password out
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(8)
	db.SetConnMaxIdleTime(time.Minute)
	return &Store{db: db, schema: schema("BYTEA")}, nil
}

// schema is the tables; the two databases differ in the name for bytes alone.
func schema(bytes string) []string {
	return []string{
		`CREATE TABLE IF NOT EXISTS profiles (
			id TEXT PRIMARY KEY, first_name TEXT NOT NULL, last_name TEXT NOT NULL,
			about_me TEXT NOT NULL, email_address TEXT NOT NULL,
			created_at BIGINT NOT NULL, style_id TEXT NOT NULL)`,
		`CREATE TABLE IF NOT EXISTS photos (
			profile_id TEXT PRIMARY KEY REFERENCES profiles (id),
			file_name TEXT NOT NULL, image ` + bytes + ` NOT NULL)`,
	}
}

// Close closes the connections.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("userprofile: close the store: %w", err)
	}
	return nil
}

// conn returns the database once its tables are there.
func (s *Store) conn(ctx context.Context) (*sql.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready {
		return s.db, nil
	}
	for _, stmt := range s.schema {
		if _, err := s.db.ExecContext(ctx, stmt); err != nil {
			return nil, fmt.Errorf("userprofile: make the tables: %w", err)
		}
	}
	s.ready = true
	return s.db, nil
}
