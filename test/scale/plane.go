package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"hasp/ca"
	"hasp/control"
	"hasp/world"
	"hasp/xds/server"
)

const trustDomain = "cluster.local"

// Plane is the control plane's process.
type Plane struct {
	control *control.Control
	ca      *ca.CA
	tokens  *ca.Tokens
	port    *meter
	end     func()
}

// PlaneConfig is what it needs.
type PlaneConfig struct {
	API      Reached
	OnDemand int // of control.Config
}

// PlaneInfo is where it is.
type PlaneInfo struct {
	Address string
	Roots   []byte
	Read    time.Duration // from the start until everything was read
}

// Start it, and wait until it has read everything.
func (p *Plane) Start(cfg PlaneConfig, out *PlaneInfo) error {
	start := time.Now()
	at := &rest.Config{Host: cfg.API.URL}
	if cfg.API.Kubeconfig != "" {
		var err error
		if at, err = clientcmd.BuildConfigFromFlags("", cfg.API.Kubeconfig); err != nil {
			return err
		}
	}
	at.QPS = -1
	client, err := dynamic.NewForConfig(at)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "hasp-scale-ca-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // it is read once
	td, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil {
		return err
	}
	if p.ca, err = ca.Load(ca.Config{Dir: dir, TrustDomain: td}); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.tokens, p.port = ca.NewTokens(0, nil), &meter{Listener: ln, open: map[net.Conn]bool{}}
	p.control, err = control.New(control.Config{Client: client, CA: p.ca, Tokens: p.tokens, Listeners: []net.Listener{p.port}, OnDemand: cfg.OnDemand,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.control.Run(ctx) }()
	p.end = func() { stop(); <-done }
	select {
	case <-p.control.Ready():
	case err := <-done:
		return errors.Join(errors.New("the control plane ended"), err)
	}
	*out = PlaneInfo{Address: ln.Addr().String(), Roots: p.ca.Bundle(), Read: time.Since(start)}
	return nil
}

// Tokens for members, in their order.
func (p *Plane) Tokens(members []member, out *[]string) error {
	for _, m := range members {
		id, err := spiffeid.FromString(m.Identity)
		if err != nil {
			return err
		}
		token, err := p.tokens.Issue(id, m.Node, time.Hour)
		if err != nil {
			return err
		}
		*out = append(*out, token)
	}
	return nil
}

// Usage so far.
func (p *Plane) Usage(_ struct{}, out *Usage) error {
	*out = Usage{CPU: cpu(), Sent: p.port.sent.Load(), Received: p.port.received.Load()}
	return nil
}

// Memory now.
func (p *Plane) Memory(_ struct{}, out *Memory) (err error) {
	*out, err = memory()
	return err
}

// Want is what a change makes true of a World.
type Want struct {
	Ready, NotReady, Gone []string // workloads
	// PeerAuthentication NAMESPACE/NAME has a generation of its own.
	PeerAuthentication string
	Generation         int64
}

func (w Want) in(s *world.World) bool {
	ready := func(key string, is bool) bool { wl := s.Workload(key); return wl != nil && wl.Ready == is }
	for _, key := range w.Ready {
		if !ready(key, true) {
			return false
		}
	}
	for _, key := range w.NotReady {
		if !ready(key, false) {
			return false
		}
	}
	for _, key := range w.Gone {
		if s.Workload(key) != nil {
			return false
		}
	}
	if w.PeerAuthentication == "" {
		return true
	}
	for _, pa := range s.PeerAuthentications {
		if pa.Namespace+"/"+pa.Name == w.PeerAuthentication {
			return pa.Generation == w.Generation
		}
	}
	return false
}

// Seen is the World that a change is in.
type Seen struct{ Generation uint64 }

const (
	lookEvery = time.Millisecond
	askEvery  = 50 * time.Millisecond
	lookFor   = 5 * time.Minute
)

// Await a change.
func (p *Plane) Await(w Want, out *Seen) error {
	return poll(lookEvery, func() (bool, error) {
		s := p.control.World()
		if !w.in(s) {
			return false, fmt.Errorf("it is not in World %d", s.Generation)
		}
		out.Generation = s.Generation
		return true, nil
	})
}

// Acks are when each proxy, by node, had acknowledged a generation.
type Acks struct{ At map[string]time.Time }

// AckArgs are which generation, and of how many proxies.
type AckArgs struct {
	Generation uint64
	Proxies    int
}

// Acked waits until so many proxies have acknowledged a generation. One that refuses
// it may change its mind: a proxy also does so when it has waited for the rest too
// long, as when all come at once.
func (p *Plane) Acked(a AckArgs, out *Acks) error {
	out.At = map[string]time.Time{}
	return poll(askEvery, func() (bool, error) {
		list := p.control.Status().Proxies
		i := slices.IndexFunc(list, func(s server.ProxyStatus) bool {
			return !s.Connected || s.AckedGeneration < a.Generation || s.Nack != nil
		})
		switch {
		case len(list) < a.Proxies:
			return false, fmt.Errorf("of %d proxies %d are known", a.Proxies, len(list))
		case i >= 0:
			return false, fmt.Errorf("%s: %s", list[i].Node, list[i].State(a.Generation))
		}
		for _, s := range list {
			out.At[s.Node] = s.AckedAt
		}
		return true, nil
	})
}

// Connected waits until all proxies have connected since a time and acknowledged
// what there is.
func (p *Plane) Connected(since time.Time, out *Acks) error {
	out.At = map[string]time.Time{}
	return poll(askEvery, func() (bool, error) {
		st := p.control.Status()
		for _, s := range st.Proxies {
			if !s.Connected || s.ConnectedAt.Before(since) || s.AckedGeneration < st.Generation {
				return false, fmt.Errorf("%s: %s", s.Node, s.State(st.Generation))
			}
		}
		for _, s := range st.Proxies {
			out.At[s.Node] = s.ConnectedAt
		}
		return true, nil
	})
}

// Generation now.
func (p *Plane) Generation(_ struct{}, out *Seen) error {
	out.Generation = p.control.World().Generation
	return nil
}

// poll until it is ok; the error says why it is not.
func poll(every time.Duration, ok func() (bool, error)) error {
	deadline := time.Now().Add(lookFor)
	for {
		done, err := ok()
		if done {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it did not come within %v: %w", lookFor, err)
		}
		time.Sleep(every)
	}
}

// Look at a view as the dashboard does, and say how long it took.
func (p *Plane) Look(path string, took *time.Duration) error {
	start := time.Now()
	answer := httptest.NewRecorder()
	p.control.Views().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
	*took = time.Since(start)
	if answer.Code != http.StatusOK {
		return fmt.Errorf("%s: %s", path, answer.Body)
	}
	return nil
}

// Cut ends all connections.
func (p *Plane) Cut(_ struct{}, at *time.Time) error {
	*at = time.Now()
	p.port.cut()
	return nil
}

// Profile what is done until ProfileEnd, into a file.
func (p *Plane) Profile(file string, _ *struct{}) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.Create(file) // closed with the process: one runs at a time
	if err != nil {
		return err
	}
	return pprof.StartCPUProfile(f)
}

// ProfileEnd ends it; with a file the heap is written there.
func (p *Plane) ProfileEnd(heap string, _ *struct{}) error {
	pprof.StopCPUProfile()
	if heap == "" {
		return nil
	}
	f, err := os.Create(heap)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("heap").WriteTo(f, 0), f.Close())
}

// Stop the control plane.
func (p *Plane) Stop(_ struct{}, _ *struct{}) error {
	p.end()
	return nil
}

// meter is a listener that counts what its connections carry.
type meter struct {
	net.Listener
	sent, received atomic.Int64

	mu   sync.Mutex
	open map[net.Conn]bool
}

func (m *meter) Accept() (net.Conn, error) {
	c, err := m.Listener.Accept()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	mc := &metered{c, m}
	m.open[mc] = true
	return mc, nil
}

func (m *meter) cut() {
	m.mu.Lock()
	open := m.open
	m.open = map[net.Conn]bool{}
	m.mu.Unlock()
	for c := range open {
		c.Close()
	}
}

type metered struct {
	net.Conn
	m *meter
}

func (c *metered) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.m.received.Add(int64(n))
	return n, err
}

func (c *metered) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.m.sent.Add(int64(n))
	return n, err
}

func (c *metered) Close() error {
	c.m.mu.Lock()
	delete(c.m.open, c)
	c.m.mu.Unlock()
	return c.Conn.Close()
}
