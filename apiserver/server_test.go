package apiserver_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"hasp/api"
	"hasp/apiserver"
)

// shared is a real server for the tests that need no state of their own.
var shared *apiserver.Server

func TestMain(m *testing.M) {
	if dir := os.Getenv("APISERVER_TEST_SERVE"); dir != "" {
		serveForever(dir)
	}
	os.Exit(withShared(m))
}

func withShared(m *testing.M) int {
	dir, err := os.MkdirTemp("", "apiserver")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	cfg, err := config(dir)
	if err != nil {
		panic(err)
	}
	cfg.Streams, cfg.Node, cfg.Namespace = fakeStreams{}, "test-node", "microservices-demo"
	start := time.Now()
	s, stop, err := run(cfg)
	if err != nil {
		panic(err)
	}
	fmt.Println("ready after", time.Since(start))
	defer stop()
	shared = s
	return m.Run()
}

// config is a server on a port of its own with the product's kinds.
func config(dir string) (apiserver.Config, error) {
	crds, err := api.CRDs()
	if err != nil {
		return apiserver.Config{}, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return apiserver.Config{}, err
	}
	return apiserver.Config{
		Dir: dir, Listener: l, ExternalURL: "https://" + l.Addr().String(), CRDs: crds,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}, nil
}

// run serves cfg until stop is called.
func run(cfg apiserver.Config) (*apiserver.Server, func() error, error) {
	ctx, cancel := context.WithCancel(context.Background())
	s, err := apiserver.New(ctx, cfg)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
		return s, func() error { cancel(); return <-done }, nil
	case err := <-done:
		cancel()
		return nil, nil, fmt.Errorf("ended before it was ready: %w", err)
	case <-time.After(3 * time.Minute):
		cancel()
		return nil, nil, fmt.Errorf("not ready within three minutes: %w", <-done)
	}
}
