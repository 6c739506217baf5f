package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"hasp/ca/csr"
	"hasp/mesh"
	"hasp/xds"
	"hasp/xds/client"
	"hasp/xds/server"
)

const places = 12

// place is one of the addresses where a service may be, and caller one where a
// workload may be. Those of even number always have one.
func place(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, byte(i)}), 80)
}
func caller(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(i)}) }

// market is a Source whose services come and go.
type market struct {
	mu         sync.Mutex
	generation uint64
	there      [places]bool
	onDemand   bool
	failing    bool
	asked      int // ResourcesFor
}

func newMarket() *market {
	m := &market{generation: 1, onDemand: true}
	for i := range places {
		m.there[i] = i%2 == 0
	}
	return m
}

func (m *market) config() *mesh.ProxyConfig {
	c := &mesh.ProxyConfig{Generation: m.generation, Node: "shop/boards-1", Identity: boards.String(), TrustDomain: "cluster.local", Role: mesh.RoleSidecar, OnDemand: m.onDemand}
	c.Inbound.Default.Mode = mesh.ModeStrict
	return c
}

func (m *market) ConfigFor(string, spiffeid.ID) (*mesh.ProxyConfig, error) {
	return nil, errors.New("nobody asks so")
}

func (m *market) ResourcesFor(_ string, _ spiffeid.ID, d mesh.Demand, _ uint64) (server.Selection, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.failing {
		return server.Selection{}, errors.New("the market is closed")
	}
	c := m.config()
	for i := range places {
		if !m.there[i] {
			continue
		}
		if !m.onDemand || d.Services[place(i)] {
			name := fmt.Sprint("outbound|80||s", i)
			c.Outbound.Listeners = append(c.Outbound.Listeners, mesh.Listener{Addr: place(i).Addr(), Port: 80, Cluster: name})
			c.Outbound.Clusters = append(c.Outbound.Clusters, mesh.Cluster{Name: name, Hostname: fmt.Sprint("s", i), Port: 80,
				Endpoints: []mesh.Endpoint{{ServicePort: 80, Addr: caller(i), Port: uint16(m.generation%60000 + 1)}}})
		}
		if !m.onDemand || d.Peers[caller(i)] {
			c.Peers = append(c.Peers, mesh.Peer{Addr: caller(i), Workload: fmt.Sprint("shop/w", i), Sidecar: true})
		}
	}
	r, err := xds.Encode(c)
	return server.Selection{Generation: c.Generation, Resources: r, OnDemand: m.onDemand}, err
}

// shopper is a proxy's end that asks.
type shopper struct {
	*client.Demand
	t       *testing.T
	market  *market
	xds     *server.Server
	current atomic.Pointer[mesh.ProxyConfig]
	applied atomic.Int64
	refuse  atomic.Bool
	stop    func() // the server
	start   func()
}

func newShopper(t *testing.T, m *market) *shopper {
	t.Helper()
	p := newPlane(t) // for its authority
	s := &shopper{Demand: client.NewDemand(), t: t, market: m}
	self, err := p.ca.Server(istiod)
	if err != nil {
		t.Fatal(err)
	}
	addr := anyPort
	s.start = func() {
		var err error
		if s.xds, err = server.New(server.Config{Source: m, Log: discard}); err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		addr = ln.Addr().String()
		g := grpc.NewServer(server.Options(self)...)
		s.xds.Register(g)
		var eg errgroup.Group
		eg.Go(func() error { return g.Serve(ln) })
		s.stop = func() { g.Stop(); _ = eg.Wait() }
	}
	s.start()
	t.Cleanup(func() { s.stop() })
	token, err := p.tokens.Issue(boards, "shop/boards-1", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	svid, err := csr.NewSource(csr.SourceConfig{Target: p.addr, ServerID: istiod, ID: boards, Workload: "shop/boards-1", Roots: p.ca.Bundle(), Token: token, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Target: addr, Node: "shop/boards-1", TLS: svid.ControlPlaneTLS, Log: discard, Demand: s.Demand,
		OnConfig: func(c *mesh.ProxyConfig) error {
			if s.refuse.Load() {
				return errors.New("not today")
			}
			s.current.Store(c)
			s.applied.Add(1)
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var eg errgroup.Group
	eg.Go(func() error { return svid.Run(ctx) })
	eg.Go(func() error {
		<-svid.Ready()
		return c.Run(ctx)
	})
	t.Cleanup(func() { cancel(); _ = eg.Wait() })
	s.wait("the first configuration", func() bool { return s.current.Load() != nil })
	return s
}

func (s *shopper) wait(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			services, peers := s.Size()
			s.t.Fatalf("not in time: %s; asked for %d and %d, %+v", what, services, peers, s.current.Load())
		}
	}
}

// change the market and tell.
func (s *shopper) change(f func(m *market)) {
	s.market.mu.Lock()
	f(s.market)
	s.market.generation++
	generation := s.market.generation
	s.market.mu.Unlock()
	s.xds.Notify(generation)
}

func has(c *mesh.ProxyConfig, a netip.AddrPort) bool {
	for _, l := range c.Outbound.Listeners {
		if l.Addr == a.Addr() && l.Port == a.Port() {
			return true
		}
	}
	return false
}

func hasPeer(c *mesh.ProxyConfig, a netip.Addr) bool {
	for _, p := range c.Peers {
		if p.Addr == a {
			return true
		}
	}
	return false
}

func (s *shopper) ask(i int) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	return errors.Join(s.Service(ctx, place(i)), s.Peer(ctx, caller(i)))
}

// TestDemandAnswers: present, absent, then present; gone; and what is refused is no
// answer.
func TestDemandAnswers(t *testing.T) {
	s := newShopper(t, newMarket())
	if c := s.current.Load(); !c.OnDemand || len(c.Outbound.Listeners)+len(c.Peers) != 0 {
		t.Fatalf("told unasked: %+v", c)
	}
	if s.KnowsService(place(0)) || s.KnowsPeer(caller(0)) {
		t.Error("known before it was asked for")
	}
	for i := range 2 {
		if err := s.ask(i); err != nil {
			t.Fatal(err)
		}
		if c := s.current.Load(); has(c, place(i)) != (i == 0) || hasPeer(c, caller(i)) != (i == 0) {
			t.Errorf("%d: answered, and in force is %+v", i, c)
		}
		if !s.KnowsService(place(i)) || !s.KnowsPeer(caller(i)) {
			t.Errorf("%d: answered and not known", i)
		}
	}
	s.change(func(m *market) { m.there[1] = true })
	s.wait("what comes is told", func() bool { return has(s.current.Load(), place(1)) && hasPeer(s.current.Load(), caller(1)) })
	s.change(func(m *market) { m.there[0] = false })
	s.wait("what goes is told", func() bool { return !has(s.current.Load(), place(0)) && !hasPeer(s.current.Load(), caller(0)) })

	s.refuse.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Service(ctx, place(2)); !errors.Is(err, context.DeadlineExceeded) || s.KnowsService(place(2)) {
		t.Errorf("a configuration that the proxy refused is an answer: %v", err)
	}
	s.refuse.Store(false)
	s.change(func(*market) {})
	if err := s.ask(2); err != nil || !has(s.current.Load(), place(2)) {
		t.Errorf("after the refusal: %v", err)
	}
}

// TestDemandSourceFails: that the control plane cannot say is not that nobody is
// there.
func TestDemandSourceFails(t *testing.T) {
	s := newShopper(t, newMarket())
	s.market.mu.Lock()
	s.market.failing = true
	before := s.market.asked
	s.market.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error)
	go func() { answer <- s.Service(ctx, place(0)) }()
	s.wait("the source is asked", func() bool {
		s.market.mu.Lock()
		defer s.market.mu.Unlock()
		return s.market.asked > before
	})
	s.change(func(*market) {})
	s.wait("and again", func() bool {
		s.market.mu.Lock()
		defer s.market.mu.Unlock()
		return s.market.asked > before+1
	})
	if s.KnowsService(place(0)) {
		t.Error("an answer, and no source")
	}
	s.change(func(m *market) { m.failing = false })
	if err := <-answer; err != nil || !has(s.current.Load(), place(0)) {
		t.Errorf("%v, %+v", err, s.current.Load())
	}
	cancel()
}

// TestDemandForgets: what is forgotten is not told any more, and asked for anew.
func TestDemandForgets(t *testing.T) {
	s := newShopper(t, newMarket())
	if err := s.ask(0); err != nil {
		t.Fatal(err)
	}
	s.ForgetAll()
	s.wait("it is gone", func() bool { c := s.current.Load(); return !has(c, place(0)) && !hasPeer(c, caller(0)) })
	if services, peers := s.Size(); services+peers != 0 || s.KnowsService(place(0)) {
		t.Errorf("%d services and %d peers are left", services, peers)
	}
	if err := s.ask(0); err != nil || !has(s.current.Load(), place(0)) {
		t.Errorf("asked anew: %v, %+v", err, s.current.Load())
	}
	// A question whether it is known is a use of it.
	since := time.Now()
	if !s.KnowsService(place(0)) {
		t.Error("not known after the answer")
	}
	if s.Forget(since); !s.KnowsService(place(0)) {
		t.Error("forgotten in spite of its use")
	}
	// In use, it stays; and without a control plane everything does.
	s.Keep([]netip.AddrPort{place(0)}, nil)
	if !s.KnowsService(place(0)) {
		t.Error("what is in use is forgotten")
	}
	s.stop()
	s.wait("the control plane is away", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		return errors.Is(s.Peer(ctx, caller(7)), client.ErrAway)
	})
	s.ForgetAll()
	if !s.KnowsService(place(0)) || !has(s.current.Load(), place(0)) {
		t.Error("forgotten while nobody could be asked anew")
	}
}

// TestDemandIsBounded: there is room for so many, and no more while all are new.
func TestDemandIsBounded(t *testing.T) {
	d := client.NewDemand()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range client.MaxAsked {
		_ = d.Service(ctx, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 80))
	}
	if err := d.Service(ctx, place(0)); err == nil || err.Error() != "too many addresses are asked for" {
		t.Errorf("one more: %v", err)
	}
	if services, _ := d.Size(); services != client.MaxAsked {
		t.Errorf("%d are asked for", services)
	}
	if err := d.Peer(ctx, caller(0)); err == nil || err.Error() != "the control plane is away" {
		t.Errorf("without a control plane: %v", err)
	}
}

// TestDemandRaces: services that come and go, questions, forgetting, a control plane
// that goes away and comes back, a mesh that is told whole and on demand by turns.
// At no time is a service that is always there taken for absent; in the end what is
// in force is what there is.
func TestDemandRaces(t *testing.T) {
	s := newShopper(t, newMarket())
	stop := make(chan struct{})
	eg, failed := errgroup.WithContext(t.Context())
	var forgetting sync.RWMutex
	var asked, checked atomic.Int64
	for w := range 4 {
		eg.Go(func() error {
			r := rand.New(rand.NewPCG(uint64(w), 2))
			for {
				select {
				case <-stop:
					return nil
				case <-time.After(100 * time.Microsecond):
				}
				i := r.IntN(places)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(20))*time.Millisecond)
				_ = s.Service(ctx, place(i))
				_ = s.Peer(ctx, caller(i))
				cancel()
				asked.Add(1)
				if i%2 == 1 {
					continue
				}
				forgetting.RLock()
				c, known := s.current.Load(), s.KnowsService(place(i))
				if c.OnDemand && known && s.current.Load() == c {
					checked.Add(1)
					if !has(c, place(i)) {
						forgetting.RUnlock()
						return fmt.Errorf("%s is known to be absent: %+v", place(i), c)
					}
				}
				forgetting.RUnlock()
			}
		})
	}
	r := rand.New(rand.NewPCG(5, 2))
	for step := range 300 {
		for n := asked.Load(); asked.Load() < n+4 && failed.Err() == nil; { // keep pace with the questions
			time.Sleep(100 * time.Microsecond)
		}
		switch r.IntN(12) {
		case 0, 1:
			forgetting.Lock()
			s.ForgetAll()
			forgetting.Unlock()
		case 2:
			s.change(func(m *market) { m.onDemand = !m.onDemand })
		case 3:
			if step%4 == 0 {
				s.stop()
				s.start()
			}
		default:
			s.change(func(m *market) { i := r.IntN(places/2)*2 + 1; m.there[i] = !m.there[i] })
		}
	}
	close(stop)
	if err := eg.Wait(); err != nil {
		t.Fatal(err)
	}
	s.change(func(m *market) { m.onDemand = true })
	s.wait("told on demand", func() bool { return s.current.Load().OnDemand })
	for i := range places {
		if err := s.ask(i); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	s.wait("what is in force is what there is", func() bool {
		c := s.current.Load()
		for i := range places {
			if has(c, place(i)) != s.market.there[i] || hasPeer(c, caller(i)) != s.market.there[i] {
				return false
			}
		}
		return len(c.Outbound.Listeners) == len(c.Outbound.Clusters)
	})
	t.Logf("%d questions, %d looks at what is always there, %d configurations", asked.Load(), checked.Load(), s.applied.Load())
	if checked.Load() == 0 {
		t.Error("nothing was looked at")
	}
}
