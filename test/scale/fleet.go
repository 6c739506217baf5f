package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/ca/csr"
	"hasp/control"
	"hasp/mesh"
	"hasp/xds/client"
)

// Fleet is the process of all proxies.
type Fleet struct {
	crew    Crew
	proxies []*proxy
	log     *slog.Logger
	silence func() // ends the reports
}

// Crew is who they are, and where their control plane is.
type Crew struct {
	Members []member
	Tokens  []string // in the order of the members
	Target  string
	Roots   []byte
}

// Joined is how long each waited for its certificate and for its first
// configuration, since all of them started at once.
type Joined struct{ Certificate, Configuration []time.Duration }

// proxy is one of them.
type proxy struct {
	member
	svid    *csr.Source
	address net.Addr // its own
	target  string
	log     *slog.Logger
	end     func()

	mu     sync.Mutex
	first  chan struct{}
	config *mesh.ProxyConfig
	at     time.Time // when it was taken in use
}

// Start them all at once, and wait until each has a configuration.
func (f *Fleet) Start(crew Crew, out *Joined) error {
	f.crew = crew
	f.log = slog.New(slog.DiscardHandler) // what matters of it the control plane knows
	server, err := spiffeid.FromString(control.Identity(trustDomain))
	if err != nil {
		return err
	}
	for i, m := range crew.Members {
		id, err := spiffeid.FromString(m.Identity)
		if err != nil {
			return err
		}
		// Each has an address of its own, since certificates are rationed by address.
		p := &proxy{member: m, address: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i/250), byte(i%250+1))}, target: crew.Target, log: f.log}
		p.svid, err = csr.NewSource(csr.SourceConfig{Target: crew.Target, ServerID: server, ID: id, Workload: m.Node,
			Roots: crew.Roots, Token: crew.Tokens[i], Dial: p.dial, Log: f.log})
		if err != nil {
			return err
		}
		f.proxies = append(f.proxies, p)
	}
	start := time.Now()
	for _, p := range f.proxies {
		go p.svid.Run(context.Background()) // until the process ends
	}
	for _, p := range f.proxies {
		select {
		case <-p.svid.Ready():
			out.Certificate = append(out.Certificate, time.Since(start))
		case <-time.After(lookFor):
			return fmt.Errorf("%s has no certificate: %w", p.Node, p.svid.Status().Err)
		}
	}
	return f.connect(&out.Configuration)
}

// connect all of them, without anything that they had before.
func (f *Fleet) connect(took *[]time.Duration) error {
	start := time.Now()
	for _, p := range f.proxies {
		if err := p.start(); err != nil {
			return err
		}
	}
	for _, p := range f.proxies {
		select {
		case <-p.first:
			*took = append(*took, p.when().Sub(start))
		case <-time.After(lookFor):
			return fmt.Errorf("%s has no configuration", p.Node)
		}
	}
	return nil
}

// Restart all of them as new processes with the certificates that they have.
func (f *Fleet) Restart(_ struct{}, out *Joined) error {
	for _, p := range f.proxies {
		p.end()
	}
	return f.connect(&out.Configuration)
}

// Applied is when each that took a configuration since a time did so last.
func (f *Fleet) Applied(since time.Time, out *Acks) error {
	out.At = map[string]time.Time{}
	for _, p := range f.proxies {
		if at := p.when(); at.After(since) {
			out.At[p.Node] = at
		}
	}
	return nil
}

// Config of a proxy, as JSON.
func (f *Fleet) Config(node string, out *[]byte) error {
	for _, p := range f.proxies {
		if p.Node == node {
			p.mu.Lock()
			defer p.mu.Unlock()
			var err error
			*out, err = json.Marshal(p.config)
			return err
		}
	}
	return errors.New("there is no proxy " + node)
}

// Usage so far.
func (f *Fleet) Usage(_ struct{}, out *Usage) error {
	out.CPU = cpu()
	return nil
}

// Memory now.
func (f *Fleet) Memory(_ struct{}, out *Memory) (err error) {
	*out, err = memory()
	return err
}

func (p *proxy) dial(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{LocalAddr: p.address}).DialContext(ctx, "tcp", address)
}

func (p *proxy) start() error {
	p.mu.Lock()
	p.first, p.config = make(chan struct{}), nil
	p.mu.Unlock()
	demand := client.NewDemand()
	demand.Keep(p.Services, p.Callers)
	c, err := client.New(client.Config{Target: p.target, Node: p.Node, TLS: p.svid.ControlPlaneTLS, Dial: p.dial, Log: p.log, Demand: demand, OnConfig: p.take})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	p.end = func() { stop(); <-done }
	return nil
}

// take a configuration in use.
func (p *proxy) take(c *mesh.ProxyConfig) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.config == nil {
		defer close(p.first)
	}
	p.config, p.at = c, time.Now()
	return nil
}

func (p *proxy) when() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}
