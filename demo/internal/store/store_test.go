package store_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/goleak"

	"sharedboards/internal/store"
)

// childDir, set in the environment, makes this test binary a database server
// on that directory, so that a test can kill it.
const childDir = "SHAREDBOARDS_STORE_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		srv, err := store.Open(store.Config{Addr: "127.0.0.1:0", Dir: dir, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			fmt.Println(srv.Addr())
			err = srv.Run(context.Background())
		}
		fmt.Println(err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// startChild starts a database server as a process of its own.
func startChild(t *testing.T, dir string) (addr string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	kill = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	if err != nil {
		kill()
		t.Fatalf("the server ended at once: %v", err)
	}
	return strings.TrimSpace(line), kill
}

func connect(t *testing.T, addr string) *mongo.Client {
	t.Helper()
	c, err := mongo.Connect(options.Client().SetHosts([]string{addr}).SetDirect(true).SetServerSelectionTimeout(2 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestKilled kills the server without warning: what it had acknowledged is
// there after the next start.
func TestKilled(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	const documents = 50

	addr, kill := startChild(t, dir)
	c := connect(t, addr)
	for i := range documents {
		if _, err := c.Database("d").Collection("c").InsertOne(ctx, bson.D{{Key: "n", Value: i}}); err != nil {
			t.Fatal(err)
		}
	}
	kill()
	_ = c.Disconnect(ctx) // says goodbye to nobody

	addr, kill = startChild(t, dir)
	defer kill()
	c = connect(t, addr)
	defer func() { _ = c.Disconnect(context.Background()) }()
	n, err := c.Database("d").Collection("c").CountDocuments(ctx, bson.D{})
	if err != nil || n != documents {
		t.Errorf("%d documents (%v), want %d", n, err, documents)
	}
}

func TestOpenFails(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := store.Open(store.Config{Addr: "127.0.0.1:0", Dir: file, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.HasPrefix(err.Error(), "store: make the data directory: ") {
		t.Errorf("got %v", err)
	}
	_, err = store.Open(store.Config{Addr: "127.0.0.1:none", Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.HasPrefix(err.Error(), "store: open ") {
		t.Errorf("got %v", err)
	}
}
