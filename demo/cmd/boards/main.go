// Command boards serves the shared items and the users' items and boards as
// JSON, from a MongoDB-protocol store.
package main

import (
	"context"
	"net"
	"os"
	"time"

	"sharedboards/internal/boards"
	"sharedboards/internal/service"
)

func main() { os.Exit(service.Main("boards", run)) }

func run(ctx context.Context, in service.Input) error {
	addr := in.Listen("8080")
	cfg := storeConfig(in)
	broken := in.Flags.Bool("break", in.Env("BREAKME", "false") == "true", "answer 503 to everything")
	if err := in.Parse(); err != nil {
		return err
	}
	store, err := boards.Connect(*cfg)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = store.Close(closing) // the process ends either way
	}()
	return service.Run(ctx, service.Config{
		Addr:    *addr,
		Handler: boards.NewHandler(boards.HandlerConfig{Store: store, Log: in.Log, Broken: *broken}),
		Health:  []string{"/health_check"}, // the path that the lab's JWT policy leaves open
		Log:     in.Log,
	})
}

// storeConfig declares the flag --store and reads the rest from the
// environment, by the original's names.
func storeConfig(in service.Input) *boards.StoreConfig {
	cfg := &boards.StoreConfig{Database: in.Env("MONGODB_DATABASE", "boardsDevelopment")}
	in.Flags.StringVar(&cfg.Addr, "store",
		net.JoinHostPort(in.Env("MONGODB_SERVICE_HOST", "boards-mongodb"), in.Env("MONGODB_SERVICE_PORT", "27017")),
		"`host:port` of the MongoDB-protocol store")
	// The original authenticates unless told not to; the demo's store has no
	// users, so here it is the other way round.
	if in.Env("MONGODB_USEAUTH", "false") == "true" {
		cfg.User = in.Env("MONGODB_USER", "dummy")
		cfg.Password = in.Env("MONGODB_PASSWORD", "dummy")
	}
	return cfg
}
