// Package service is what the five programs of the shared-boards app have in
// common: one HTTP server with limits, a request log, a health answer, and an
// orderly end on SIGTERM. A program calls [Main], builds its handler, and hands
// it to [Run].
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Config describes one HTTP server.
type Config struct {
	// Addr is where to listen, ":8080" if empty.
	Addr string
	// Handler answers the requests. [Run] adds the health answer, the request
	// log and the recovery from panics.
	Handler http.Handler
	// Health lists more paths that answer as /healthz does.
	Health []string
	// Log receives one line for each request.
	Log *slog.Logger
	// Drain is how long running requests may take to finish at the end, 5 s if zero.
	Drain time.Duration
	// Listening is told the address once the socket is open; nil is allowed.
	Listening func(net.Addr)
}

// Run serves until ctx ends, lets running requests finish and returns. It
// returns nil after an orderly end, even if Drain ran out.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Addr == "" {
		cfg.Addr = ":8080"
	}
	if cfg.Drain == 0 {
		cfg.Drain = 5 * time.Second
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return fmt.Errorf("listen for http: %w", err)
	}
	srv := &http.Server{
		Handler: withHealth(cfg.Health, withLog(cfg.Log, cfg.Handler)),
		// A stranger holds a connection only as long as these let him.
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	cfg.Log.Info("listening", slog.String("addr", ln.Addr().String()))
	if cfg.Listening != nil {
		cfg.Listening(ln.Addr())
	}

	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve http: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.Drain)
	defer cancel()
	if err := srv.Shutdown(drain); err != nil {
		cfg.Log.Warn("requests were cut short", slog.Duration("after", cfg.Drain))
		_ = srv.Close() // Shutdown already said what went wrong
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http: %w", err)
	}
	cfg.Log.Info("stopped")
	return nil
}
