// Command boards-mongodb is the boards' database: MongoDB's wire protocol on
// TCP port 27017, SQLite files underneath.
package main

import (
	"context"
	"fmt"
	"os"

	"sharedboards/internal/service"
	"sharedboards/internal/store"
)

func main() { os.Exit(service.Main("boards-mongodb", run)) }

func run(ctx context.Context, in service.Input) error {
	addr := in.Listen("27017")
	dir := in.Flags.String("data", in.Env("DATA_DIR", ""), "`directory` of the data; empty: a temporary one, removed at the end")
	if err := in.Parse(); err != nil {
		return err
	}
	if *dir == "" {
		tmp, err := os.MkdirTemp("", "boards-mongodb-")
		if err != nil {
			return fmt.Errorf("make a temporary data directory: %w", err)
		}
		defer os.RemoveAll(tmp)
		*dir = tmp
	}
	srv, err := store.Open(store.Config{Addr: *addr, Dir: *dir, Log: in.Log})
	if err != nil {
		return err
	}
	return srv.Run(ctx)
}
