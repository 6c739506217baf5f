package control_test

import (
	"crypto/tls"
	"log/slog"
	"testing"
	"time"

	"hasp/mesh"
	"hasp/xds/client"
)

// once is a proxy that has one thing to report.
type once struct{ r *mesh.Report }

func (o once) Changed() <-chan struct{} { return nil }

func (o once) Report(whole bool) *mesh.Report {
	if !whole {
		return nil
	}
	return o.r
}

// What a proxy reports over its stream is in the facts, and that the stream ends.
func TestReportStream(t *testing.T) {
	p := start(t, pod("web-1", "10.0.0.1"))
	cert, err := p.ca.Issue(webID, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, err := client.NewReporter(client.ReporterConfig{
		Target: p.addr, Node: "shop/web-1", Source: once{report(1)}, Log: slog.New(slog.DiscardHandler),
		TLS: func() *tls.Config {
			return &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*cert}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	connected := func(want bool) func() bool {
		return func() bool {
			_, f, err := p.Facts()
			return err == nil && len(f.Proxies) == 1 && len(f.Edges) == 1 && f.Proxies[0].Connected == want
		}
	}
	t.Run("connected", func(t *testing.T) {
		run(t, "reporter", r.Run)
		eventually(t, "an edge of a connected proxy", connected(true))
	})
	eventually(t, "the proxy is gone", connected(false))
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
