// Command load is both ends of a steady stream of HTTP requests: "load serve"
// answers them, "load run" sends them at a fixed rate, whatever becomes of the
// ones before, and prints a [Result] as JSON, at the end or when it is
// interrupted. "load stop", in a container whose first process is one of these,
// does that.
//
// It retries nothing, so that a request that the mesh lost is counted as lost.
package main

import (
	"context"
	"encoding/json"
	"errors"
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
		return errors.New("say serve, run or stop")
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
	case "stop":
		return syscall.Kill(1, syscall.SIGTERM)
	}
	return fmt.Errorf("unknown word %q; say serve, run or stop", args[0])
}

// serveOut is how long requests that are there may take when ctx ends.
const serveOut = 5 * time.Second

// serve answers every request with its path, until ctx ends; those that are
// there then, too.
func serve(ctx context.Context, addr string) error {
	srv := &http.Server{Addr: addr, ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.URL.Path) })}
	served := make(chan error, 1)
	go func() { served <- srv.ListenAndServe() }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	out, cancel := context.WithTimeout(context.WithoutCancel(ctx), serveOut)
	defer cancel()
	return srv.Shutdown(out)
}
