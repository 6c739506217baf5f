package control_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/ca"
	"hasp/control"
	"hasp/mesh"
	"hasp/truth"
	"hasp/xds/client"
)

// sayings are what a proxy has to report: the same each time it is asked for
// all, and one more line a change.
type sayings struct {
	changed chan struct{}
	n       uint64
}

func (s *sayings) Changed() <-chan struct{} { return s.changed }

func (s *sayings) Report(bool) *mesh.Report {
	s.n++
	return report(s.n)
}

// reporter of a proxy with a certificate of the plane's authority.
func (p *plane) reporter(t *testing.T, node, id string, s *sayings) (stop func()) {
	t.Helper()
	r, err := client.NewReporter(client.ReporterConfig{Target: p.addr, Node: node, TLS: as(t, p.ca, id), Log: slog.New(slog.DiscardHandler), Source: s})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// as an identity of an authority, towards whoever answers.
func as(t *testing.T, a *ca.CA, id string) func() *tls.Config {
	t.Helper()
	cert, err := a.Issue(spiffeid.RequireFromString(id), 0)
	if err != nil {
		t.Fatal(err)
	}
	return func() *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{*cert}}
	}
}

func reporterOf(t *testing.T, p *plane, node string) *truth.Reporter {
	t.Helper()
	_, f, err := p.Facts()
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.Proxies {
		if f.Proxies[i].Node == node {
			return &f.Proxies[i]
		}
	}
	return nil
}

// What a proxy reports to one control plane the others hear too: from the
// beginning, however late they come, and that it is gone.
func TestReplicasPassOn(t *testing.T) {
	town := []string{pod("web-1", "10.0.0.1"), pod("web-2", "10.0.0.2")}
	// Both sign with one authority, as replicas do.
	b := start(t, town...)
	relay := make(chan *client.Relay, 1)
	a := startAs(t, func(c *control.Config) {
		c.CA = b.ca
		c.PassOn = func(r *mesh.Report) {
			select {
			case to := <-relay:
				relay <- to
				to.Tell(r)
			default:
			}
		}
	}, town...)
	a.ca = b.ca
	stop := a.reporter(t, "shop/web-1", web, &sayings{changed: make(chan struct{})})
	wait(t, "web-1 has reported", func() bool { return reporterOf(t, a, "shop/web-1") != nil })
	if reporterOf(t, b, "shop/web-1") != nil {
		t.Fatal("nobody has passed anything on yet")
	}

	to, err := client.NewRelay(client.RelayConfig{Target: b.addr, TLS: as(t, b.ca, istiodID.String()), Log: slog.New(slog.DiscardHandler), Opened: a.ReportAnew})
	if err != nil {
		t.Fatal(err)
	}
	relay <- to
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = to.Run(ctx) }()
	defer func() { end(); <-done }()
	connected := func(p *plane, node string) func() bool {
		return func() bool { r := reporterOf(t, p, node); return r != nil && r.Connected }
	}
	wait(t, "web-1 is known at the other, too", connected(b, "shop/web-1"))
	_, f, _ := b.Facts()
	if len(f.Edges) != 1 || f.Edges[0].Node != "shop/web-1" || f.Edges[0].Peer != "shop/curl" && f.Edges[0].Peer != "" {
		t.Errorf("edges at the other: %+v", f.Edges)
	}

	// One that reports there itself is not spoken for, nor ended, from here.
	b.reporter(t, "shop/web-2", web, &sayings{changed: make(chan struct{})})
	wait(t, "web-2 has reported", connected(b, "shop/web-2"))
	to.Tell(&mesh.Report{Node: "shop/web-2", Gone: true})
	to.Tell(&mesh.Report{Node: "shop/nobody"}) // and one that is not taken ends nothing

	stop()
	wait(t, "web-1 is gone at both", func() bool { return !connected(a, "shop/web-1")() && !connected(b, "shop/web-1")() })
	if !connected(b, "shop/web-2")() {
		t.Error("web-2, which reports to the other itself, was ended from here")
	}
}
