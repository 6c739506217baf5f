package client

import (
	"context"
	"crypto/tls"
	"log/slog"
	"strings"
	"testing"

	"hasp/mesh"
)

// What waits for another control plane that does not read is bounded in bytes: a
// proxy may make few connections with long stories.
func TestRelayIsBounded(t *testing.T) {
	long := strings.Repeat("x", 1<<10)
	story := &mesh.Failure{Error: long, Offered: make([]string, 32), Expected: make([]string, 32)}
	for i := range story.Offered {
		story.Offered[i], story.Expected[i] = long, long
	}
	for name, c := range map[string]struct {
		report *mesh.Report
		least  int // of them must find room
		most   int
	}{
		"long stories":  {&mesh.Report{Connections: []mesh.Connection{{Why: long, Failure: story}}}, 1000, 2100},
		"short ones":    {&mesh.Report{Connections: make([]mesh.Connection, 500)}, 100, 1000},
		"signs of life": {&mesh.Report{}, 100_000, 1 << 20},
	} {
		r, err := NewRelay(RelayConfig{Target: "nobody:1", TLS: func() *tls.Config { return nil }, Log: slog.New(slog.DiscardHandler), Opened: func(context.Context) {}})
		if err != nil {
			t.Fatal(err)
		}
		r.set(true)
		n := 0
		for ; !r.behind && n <= c.most; n++ {
			r.Tell(c.report)
		}
		if n < c.least || n > c.most {
			t.Errorf("%s: %d reports wait, want %d to %d", name, n, c.least, c.most)
		}
		if _, err := r.take(); err != errBehind {
			t.Errorf("%s: %v", name, err)
		}
	}
}
