package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hasp/mesh"
)

// Where a mesh is too large to be told whole (mesh.ProxyConfig.OnDemand), the first
// connection to an address waits until the control plane has said whether a service
// is there. Without an answer it fails: what is not known yet is not a stranger to
// whom plaintext may go. What was answered stays known, and kept up to date, while it
// is in use, and so do connections whose destination is asked for anew: they are as
// they were decided until the answer is there.
//
// Who calls is asked for likewise, but for no decision: how callers are treated is
// told whole. Where the answer is late, they are taken for what they may be.

// Directory is whom the proxy asks for what its configuration does not say. Known
// means that the configuration in force says all there is about an address.
type Directory interface {
	// Service and Peer return when it is known what is at an address, or why that
	// is not so.
	Service(context.Context, netip.AddrPort) error
	Peer(context.Context, netip.Addr) error
	KnowsService(netip.AddrPort) bool
	KnowsPeer(netip.Addr) bool
	// Keep says what is in use. What it does not know of that it asks for.
	Keep(services []netip.AddrPort, peers []netip.Addr)
	// Size is how much is known or asked for.
	Size() (services, peers int)
}

const (
	// serviceWithin and peerWithin bound the wait of a connection for an answer.
	serviceWithin = 2 * time.Second
	peerWithin    = 500 * time.Millisecond
	// keepEvery is how often the directory is told what is in use.
	keepEvery = 30 * time.Second
)

var errUnanswered = errors.New("the control plane has not said whether a service is at")

// knows tells whether it is known what is at an address that the workload calls.
func (s *settings) knows(dst netip.AddrPort) bool {
	return s.directory == nil || s.directory.KnowsService(dst)
}

// unsure tells whether a caller may be somebody that the proxy was not told of yet.
func (s *settings) unsure(a netip.Addr) bool {
	return s.directory != nil && !s.directory.KnowsPeer(a)
}

// find waits until it is known what is at an address that the workload calls, and
// returns the settings that say it: those of before may be older than the answer.
func (p *Proxy) find(s *settings, dst netip.AddrPort) (*settings, error) {
	if s.directory == nil {
		return s, nil
	}
	if s.knows(dst) {
		return p.settings.Load(), nil
	}
	ctx, cancel := context.WithTimeout(p.ctx, serviceWithin)
	defer cancel()
	if err := p.question("service", func() error { return s.directory.Service(ctx, dst) }); err != nil {
		return s, fmt.Errorf("%w %s: %w", errUnanswered, dst, err)
	}
	return p.settings.Load(), nil
}

// meet waits a little until it is known who is at an address that calls.
func (p *Proxy) meet(s *settings, a netip.Addr) *settings {
	if s.directory == nil {
		return s
	}
	if s.directory.KnowsPeer(a) {
		return p.settings.Load()
	}
	ctx, cancel := context.WithTimeout(p.ctx, peerWithin)
	defer cancel()
	if err := p.question("peer", func() error { return s.directory.Peer(ctx, a) }); err != nil {
		p.log.Debug("a caller is not known", slog.String("address", a.String()), slog.Any("error", err))
	}
	return p.settings.Load()
}

// question counts a question and how long its answer took.
func (p *Proxy) question(kind string, ask func() error) error {
	start := time.Now()
	err := ask()
	outcome := "answered"
	if err != nil {
		outcome = "unanswered"
	}
	p.metrics.questions.WithLabelValues(kind, outcome).Observe(time.Since(start).Seconds())
	return err
}

// undecided tells whether a connection goes where it is not known what is there: the
// mesh has become too large to be told whole while it lived.
func (s *settings) undecided(f *mesh.Connection) bool {
	return s.directory != nil && f.Direction == mesh.OutboundDir && f.Destination.IsValid() && !s.knows(f.Destination)
}

// keepKnown tells the directory what is in use, and has connections that are
// undecided judged when they can be, until ctx ends.
func (p *Proxy) keepKnown(ctx context.Context) {
	if p.cfg.Directory == nil {
		return
	}
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		if s := p.settings.Load(); s != nil && s.directory != nil {
			p.revisit(ctx, s)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-p.lookAgain:
		}
	}
}

func (p *Proxy) revisit(ctx context.Context, s *settings) {
	var services []netip.AddrPort
	var peers []netip.Addr
	undecided := map[netip.AddrPort]bool{}
	for _, r := range p.table.rows() {
		f := r.snapshot()
		switch {
		case f.Direction == mesh.InboundDir:
			peers = append(peers, f.Source.Addr())
		case f.Destination.IsValid():
			services = append(services, f.Destination)
			if s.undecided(&f) {
				undecided[f.Destination] = true
			}
		}
	}
	s.directory.Keep(services, peers)
	if len(undecided) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, keepEvery)
	defer cancel()
	for dst := range undecided {
		if err := s.directory.Service(ctx, dst); err != nil {
			p.log.Warn("connections are not judged again yet", slog.String("destination", dst.String()), slog.Any("error", err))
		}
	}
	p.applying.Lock()
	defer p.applying.Unlock()
	p.sweep(p.settings.Load())
}

// inherit goes on where the settings before left off, in what is no configuration.
func (s *settings) inherit(old *settings) {
	if old == nil {
		return
	}
	for name, c := range s.clusters {
		if before := old.clusters[name]; before != nil {
			c.turn.Store(before.turn.Load())
		}
	}
}

// Known is how much of the mesh a proxy knows.
type Known struct {
	// OnDemand: it is told what it asked for, and not the whole.
	OnDemand      bool `json:"onDemand"`
	AskedServices int  `json:"askedServices"`
	AskedPeers    int  `json:"askedPeers"`
	// Of the configuration in force.
	Listeners int `json:"listeners"`
	Clusters  int `json:"clusters"`
	Endpoints int `json:"endpoints"`
	Peers     int `json:"peers"`
}

// Known of now.
func (p *Proxy) Known() Known {
	var k Known
	if p.cfg.Directory != nil {
		k.AskedServices, k.AskedPeers = p.cfg.Directory.Size()
	}
	s := p.settings.Load()
	if s == nil {
		return k
	}
	out := s.config.Outbound
	k.OnDemand, k.Listeners, k.Clusters, k.Peers = s.config.OnDemand, len(out.Listeners), len(out.Clusters), len(s.config.Peers)
	for i := range out.Clusters {
		k.Endpoints += len(out.Clusters[i].Endpoints)
	}
	return k
}

// knownMetrics are the same as gauges.
func (p *Proxy) knownMetrics() {
	for _, g := range []struct {
		kind string
		of   func(Known) int
	}{
		{"listeners", func(k Known) int { return k.Listeners }}, {"clusters", func(k Known) int { return k.Clusters }},
		{"endpoints", func(k Known) int { return k.Endpoints }}, {"peers", func(k Known) int { return k.Peers }},
		{"asked_services", func(k Known) int { return k.AskedServices }}, {"asked_peers", func(k Known) int { return k.AskedPeers }},
	} {
		p.metrics.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hasp_known", Help: "How much of the mesh the proxy knows, and has asked for.", ConstLabels: prometheus.Labels{"kind": g.kind},
		}, func() float64 { return float64(g.of(p.Known())) }))
	}
}
