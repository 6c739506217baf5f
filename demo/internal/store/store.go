// Package store is the boards' database: FerretDB, which speaks MongoDB's wire
// protocol, on SQLite files in a directory. It stands where the lab has a
// MongoDB 3.6: the mesh sees a plain TCP service on port 27017 with a
// client-first binary protocol.
//
// It is meant for the demo and listens without user names; the mesh decides
// who may connect.
package store

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"github.com/FerretDB/FerretDB/ferretdb"
)

// Config describes one database server.
type Config struct {
	// Addr is the TCP address to listen on, ":27017" if empty.
	Addr string
	// Dir holds one SQLite file for each database; it is made if missing.
	Dir string
	// Log receives FerretDB's errors. What it says below that level is left
	// out: it prints whole messages, and with them the users' items.
	Log *slog.Logger
}

// Server is an open database server; [Server.Run] serves it.
type Server struct {
	db   *ferretdb.FerretDB
	addr string
}

// Open opens the files and the socket: from here on clients can connect, and
// are answered once [Server.Run] runs. FerretDB's embedded form has no
// telemetry reporter, so nothing is sent anywhere.
func Open(cfg Config) (*Server, error) {
	if cfg.Addr == "" {
		cfg.Addr = ":27017"
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("store: data directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: make the data directory: %w", err)
	}
	db, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: cfg.Addr},
		Logger:    slog.New(atLeast{level: slog.LevelError, Handler: cfg.Log.Handler()}),
		Handler:   "sqlite",
		SQLiteURL: sqliteURL(dir),
	})
	if err != nil {
		return nil, fmt.Errorf("store: open %s on %s: %w", dir, cfg.Addr, err)
	}
	uri, err := url.Parse(db.MongoDBURI())
	if err != nil {
		return nil, fmt.Errorf("store: address of the listener: %w", err)
	}
	cfg.Log.Info("listening", slog.String("addr", uri.Host), slog.String("dir", dir))
	return &Server{db: db, addr: uri.Host}, nil
}

// sqliteURL is the directory as FerretDB wants it. With a write-ahead log
// (FerretDB's default) synchronous=normal loses nothing when the process is
// killed, only possibly the last commits when the power goes.
func sqliteURL(dir string) string {
	u := url.URL{
		Scheme:   "file",
		OmitHost: true,
		Path:     dir + "/",
		RawQuery: url.Values{"_pragma": {"synchronous(normal)"}}.Encode(),
	}
	return u.String()
}

// Addr is the TCP address that clients can reach, with the port that was chosen.
func (s *Server) Addr() string { return s.addr }

// Run serves until ctx ends. FerretDB gives connected clients three seconds to
// leave before it closes their connections and the files.
func (s *Server) Run(ctx context.Context) error {
	if err := s.db.Run(ctx); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// atLeast passes only records of a level or above.
type atLeast struct {
	slog.Handler
	level slog.Level
}

// Enabled implements [slog.Handler].
func (h atLeast) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level && h.Handler.Enabled(ctx, l)
}

// WithAttrs implements [slog.Handler].
func (h atLeast) WithAttrs(attrs []slog.Attr) slog.Handler {
	return atLeast{Handler: h.Handler.WithAttrs(attrs), level: h.level}
}

// WithGroup implements [slog.Handler].
func (h atLeast) WithGroup(name string) slog.Handler {
	return atLeast{Handler: h.Handler.WithGroup(name), level: h.level}
}
