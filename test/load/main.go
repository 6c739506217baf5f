// Command load is both ends of a steady stream of HTTP requests: "load serve"
// answers them, "load run" sends them at a fixed rate, whatever becomes of the
// ones before, and prints a [Result] as JSON.
//
// It retries nothing, so that a request that the mesh lost is counted as lost.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("say serve or run")
	}
	fs := flag.NewFlagSet(args[0], flag.ExitOnError)
	switch args[0] {
	case "serve":
		addr := fs.String("addr", ":8080", "address to listen on")
		fs.Parse(args[1:])
		return serve(ctx, *addr)
	case "run":
		var p Plan
		fs.StringVar(&p.Address, "to", "", "HOST:PORT of the server")
		fs.IntVar(&p.Rate, "rate", 500, "requests a second")
		fs.IntVar(&p.Fresh, "fresh", 5, "every so manieth request has a connection of its own; 1 is each, 0 is none")
		fs.IntVar(&p.Kept, "kept", 16, "connections that the others share")
		fs.DurationVar(&p.For, "for", 10*time.Second, "how long")
		fs.Parse(args[1:])
		return json.NewEncoder(os.Stdout).Encode(p.Run(ctx))
	}
	return fmt.Errorf("unknown word %q; say serve or run", args[0])
}

// serve answers every request with its path, until ctx ends.
func serve(ctx context.Context, addr string) error {
	srv := &http.Server{Addr: addr, ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.URL.Path) })}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}
