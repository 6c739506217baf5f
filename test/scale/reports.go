package main

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"hasp/mesh"
	"hasp/xds/client"
)

// traffic is what a proxy has to report: connections to what it calls and of who
// calls it, of which there are more each time that somebody asks.
type traffic struct {
	m member

	mu    sync.Mutex
	start time.Time
	count uint64
}

// always has something.
var always = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Changed implements client.ReportSource.
func (*traffic) Changed() <-chan struct{} { return always }

// Report implements client.ReportSource.
func (t *traffic) Report(bool) *mesh.Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.start.IsZero() {
		t.start = now
	}
	t.count++
	r := &mesh.Report{Node: t.m.Node, Start: t.start, At: now, Generation: 1}
	line := func(k mesh.EdgeKey) {
		k.Node, k.Security, k.Allowed = t.m.Node, mesh.MutualTLS, true
		r.Edges = append(r.Edges, mesh.Edge{EdgeKey: k, Protocol: mesh.HTTP, Why: "STRICT", First: t.start, Last: now,
			Connections: 1 + t.count/10, Open: 1, Sent: 1000 * t.count, Received: 100 * t.count, Requests: t.count})
	}
	for i, a := range t.m.Callers {
		line(mesh.EdgeKey{Direction: mesh.InboundDir, PeerNet: prefixOf(a), Port: 8080})
		line(mesh.EdgeKey{Direction: mesh.OutboundDir, PeerNet: prefixOf(t.m.Callers[len(t.m.Callers)-1-i]), Service: "called", Port: servicePort})
	}
	return r
}

// Reports has all proxies report, about once a second, or stop it.
func (f *Fleet) Reports(on bool, _ *struct{}) error {
	if !on {
		f.silence()
		return nil
	}
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, p := range f.proxies {
		r, err := client.NewReporter(client.ReporterConfig{Target: p.target, Node: p.Node, TLS: p.svid.ControlPlaneTLS, Dial: p.dial, Log: p.log, Source: &traffic{m: p.member}})
		if err != nil {
			stop()
			return err
		}
		all.Go(func() { _ = r.Run(ctx) })
	}
	f.silence = func() { stop(); all.Wait() }
	return nil
}

func prefixOf(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
