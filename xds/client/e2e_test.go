package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"hasp/ca"
	"hasp/ca/csr"
	"hasp/mesh"
	"hasp/xds/client"
	"hasp/xds/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	td      = spiffeid.RequireTrustDomainFromString("cluster.local")
	istiod  = spiffeid.RequireFromString("spiffe://cluster.local/ns/istio-system/sa/istiod")
	boards  = spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/boards")
	rogue   = spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/rogue")
	discard = slog.New(slog.DiscardHandler)
)

// anyPort of an address that no outgoing connection comes from: none of another
// test's can take the port while the server there is stopped.
const anyPort = "127.0.0.4:0"

// patience is how long anything may take on a busy machine under the race
// detector; nothing takes a second on an idle one.
const patience = 30 * time.Second

// world is the Source: what the control plane's compiler would say.
type world struct {
	mu      sync.Mutex
	configs map[string]*mesh.ProxyConfig
	fail    error
}

func (w *world) ConfigFor(node string, peer spiffeid.ID) (*mesh.ProxyConfig, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := w.configs[node]
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: %s", server.ErrNotFound, node)
	case c.Identity != peer.String():
		return nil, fmt.Errorf("%w: %s is %s, not %s", server.ErrDenied, node, c.Identity, peer)
	}
	return c, w.fail
}

// plane is a control plane on loopback: authority, certificate service and xDS
// behind one port, as in the product.
type plane struct {
	t      *testing.T
	world  *world
	ca     *ca.CA
	tokens *ca.Tokens
	xds    *server.Server
	addr   string
	log    *slog.Logger // of proxies
	age    time.Duration
	stop   func()
	heard  *heard // nil: no reports are taken
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	return newPlaneAt(t, nil)
}

func newPlaneAt(t *testing.T, now func() time.Time) *plane {
	t.Helper()
	p := &plane{t: t, world: &world{configs: map[string]*mesh.ProxyConfig{}}, tokens: ca.NewTokens(0, nil), log: discard}
	var err error
	if p.ca, err = ca.Load(ca.Config{Dir: t.TempDir(), TrustDomain: td, Now: now}); err != nil {
		t.Fatal(err)
	}
	p.start(anyPort)
	t.Cleanup(func() { p.stop() })
	return p
}

func (p *plane) start(addr string) {
	p.t.Helper()
	self, err := p.ca.Server(istiod)
	if err != nil {
		p.t.Fatal(err)
	}
	signer, err := csr.NewServer(csr.ServerConfig{CA: p.ca, Verifiers: []csr.Verifier{csr.JoinTokens{Tokens: p.tokens}}, Log: discard})
	if err != nil {
		p.t.Fatal(err)
	}
	cfg := server.Config{Source: p.world, StreamAge: p.age, Log: discard}
	if p.heard != nil {
		cfg.Reports, cfg.Gone = p.heard.take, p.heard.gone
		cfg.MayReport = func(node string, peer spiffeid.ID) error {
			_, err := p.world.ConfigFor(node, peer)
			return err
		}
	}
	if p.xds, err = server.New(cfg); err != nil {
		p.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		p.t.Fatal(err)
	}
	g := grpc.NewServer(server.Options(self)...)
	signer.Register(g)
	p.xds.Register(g)
	var eg errgroup.Group
	eg.Go(func() error { return g.Serve(ln) })
	p.addr = ln.Addr().String()
	p.stop = func() { g.Stop(); eg.Wait() }
}

// set puts a configuration in force and tells the server.
func (p *plane) set(generation uint64, c *mesh.ProxyConfig) {
	p.world.mu.Lock()
	cp := *c
	cp.Generation = generation
	p.world.configs[c.Node] = &cp
	p.world.mu.Unlock()
	p.xds.Notify(generation)
}

func (p *plane) status(node string) server.ProxyStatus {
	for _, s := range p.xds.Status() {
		if s.Node == node {
			return s
		}
	}
	return server.ProxyStatus{}
}

func (p *plane) wait(generation uint64, nodes ...string) error {
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	return p.xds.WaitAcked(ctx, generation, nodes...)
}

// until waits for a state of the server.
func (p *plane) until(what string, ok func() bool) {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		changed := p.xds.Changed()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			p.t.Fatalf("not in time: %s; status %+v", what, p.xds.Status())
		}
	}
}

// proxy is the proxy's end: an SVID by token, then configurations.
type proxy struct {
	svid    *csr.Source
	client  *client.Client
	configs chan *mesh.ProxyConfig
	mu      sync.Mutex
	refuse  error
}

func (p *plane) proxy(node string, id spiffeid.ID) *proxy {
	p.t.Helper()
	return p.proxyFor(node, id, 0) // the lifetime is the authority's
}

func (p *plane) proxyFor(node string, id spiffeid.ID, lifetime time.Duration) *proxy {
	p.t.Helper()
	token, err := p.tokens.Issue(id, node, time.Minute)
	if err != nil {
		p.t.Fatal(err)
	}
	x := &proxy{configs: make(chan *mesh.ProxyConfig, 100)}
	if x.svid, err = csr.NewSource(csr.SourceConfig{Target: p.addr, ServerID: istiod, ID: id, Workload: node, Roots: p.ca.Bundle(), Token: token, Lifetime: lifetime, Log: discard}); err != nil {
		p.t.Fatal(err)
	}
	x.client, err = client.New(client.Config{Target: p.addr, Node: node, TLS: x.svid.ControlPlaneTLS, Log: p.log, OnConfig: func(c *mesh.ProxyConfig) error {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.refuse != nil {
			return x.refuse
		}
		x.configs <- c
		return nil
	}})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var eg errgroup.Group
	eg.Go(func() error { return x.svid.Run(ctx) })
	eg.Go(func() error {
		select {
		case <-x.svid.Ready():
			return x.client.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	p.t.Cleanup(func() {
		cancel()
		if err := eg.Wait(); err != nil {
			p.t.Error(err)
		}
	})
	return x
}

func (x *proxy) next(t *testing.T) *mesh.ProxyConfig {
	t.Helper()
	select {
	case c := <-x.configs:
		return c
	case <-time.After(patience):
		t.Fatalf("no configuration in time; client %+v", x.client.Status())
		return nil
	}
}

func config(node string, id spiffeid.ID, services ...string) *mesh.ProxyConfig {
	c := &mesh.ProxyConfig{Node: node, Identity: id.String(), TrustDomain: "cluster.local", Role: mesh.RoleSidecar}
	c.Inbound.Default.Mode = mesh.ModePermissive
	for i, s := range services {
		name := "outbound|8080||" + s + ".shop.svc.cluster.local"
		c.Outbound.Clusters = append(c.Outbound.Clusters, mesh.Cluster{Name: name, Hostname: s + ".shop.svc.cluster.local", Port: 8080, TLS: mesh.ClientTLS{Auto: true},
			Endpoints: []mesh.Endpoint{{ServicePort: 8080, Addr: netip.AddrFrom4([4]byte{10, 77, 0, byte(i)}), Port: 8080, Sidecar: true}}})
		c.Outbound.Listeners = append(c.Outbound.Listeners, mesh.Listener{Addr: netip.AddrFrom4([4]byte{10, 96, 0, byte(i)}), Port: 8080, Cluster: name})
	}
	return c
}

func same(t *testing.T, want, got *mesh.ProxyConfig) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.IgnoreFields(mesh.ProxyConfig{}, "Generation")); d != "" {
		t.Error(d)
	}
}

// The journey: token, certificate, configuration, update, refusal, recovery.
func TestJourney(t *testing.T) {
	p := newPlane(t)
	c := config("shop/boards-1", boards, "a", "b")
	p.set(1, c)
	x := p.proxy("shop/boards-1", boards)
	got := x.next(t)
	same(t, c, got)
	if got.Generation != 1 {
		t.Errorf("generation %d", got.Generation)
	}
	if err := p.wait(1); err != nil {
		t.Fatal(err)
	}

	// A new service and the end of an old one arrive as one change.
	c = config("shop/boards-1", boards, "b", "c", "d")
	c.Inbound.Default.Mode = mesh.ModeStrict
	p.set(2, c)
	same(t, c, x.next(t))
	if err := p.wait(2, "shop/boards-1"); err != nil {
		t.Fatal(err)
	}

	// A generation that changes nothing for this proxy counts at once.
	p.set(3, c)
	if err := p.wait(3); err != nil {
		t.Fatal(err)
	}
	if len(x.configs) != 0 {
		t.Error("the proxy was told of nothing")
	}

	// The proxy refuses; its text arrives, and the old one goes on.
	x.mu.Lock()
	x.refuse = errors.New("inbound port 9: cannot listen")
	x.mu.Unlock()
	c = config("shop/boards-1", boards, "c")
	p.set(4, c)
	err := p.wait(4)
	if want := "xds/server: shop/boards-1 refused generation 4: inbound port 9: cannot listen"; err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %s", err, want)
	}
	p.until("everything is answered", func() bool { return p.status("shop/boards-1").Nack != nil })
	if st := p.status("shop/boards-1"); st.AckedGeneration != 3 || st.SentGeneration != 4 || st.Nack.Generation != 4 {
		t.Errorf("status %+v, nack %+v", st, st.Nack)
	}
	// A generation without anything for it does not make it agree.
	p.set(5, c)
	p.until("generation 5 is sent", func() bool { return p.status("shop/boards-1").SentGeneration == 5 })
	if st := p.status("shop/boards-1"); st.AckedGeneration != 3 || st.Nack == nil {
		t.Errorf("status %+v, nack %+v", st, st.Nack)
	}

	// The next change makes the set whole again, although it is small.
	x.mu.Lock()
	x.refuse = nil
	x.mu.Unlock()
	c.Outbound.Clusters[0].Endpoints = nil
	p.set(6, c)
	same(t, c, x.next(t))
	if err := p.wait(6); err != nil {
		t.Fatal(err)
	}
	if st := p.status("shop/boards-1"); st.Nack != nil || !st.Connected || st.Identity != boards.String() {
		t.Errorf("status %+v", st)
	}
}

// The control plane goes and comes back: what is in use stays, and only the
// difference is sent.
func TestReconnect(t *testing.T) {
	p := newPlane(t)
	c := config("shop/boards-1", boards, "a", "b")
	p.set(1, c)
	x := p.proxy("shop/boards-1", boards)
	x.next(t)
	p.stop()
	c = config("shop/boards-1", boards, "b")
	p.world.mu.Lock()
	c.Generation = 2
	p.world.configs[c.Node] = c
	p.world.mu.Unlock()
	p.start(p.addr)
	same(t, c, x.next(t))
	if err := p.wait(2, "shop/boards-1"); err != nil {
		t.Fatal(err)
	}
	p.stop()
	p.start(p.addr)
	if err := p.wait(2, "shop/boards-1"); err != nil {
		t.Fatal(err)
	}
	if len(x.configs) != 0 {
		t.Error("the same configuration was handed over again")
	}
}

// TestConnectAnew: a control plane that asks to connect anew is no failure, and
// nothing is lost or sent twice.
func TestConnectAnew(t *testing.T) {
	p := newPlane(t)
	p.stop()
	p.age = 20 * time.Millisecond
	var log lockedBuffer
	p.log = slog.New(slog.NewTextHandler(&log, nil))
	p.start(p.addr)
	anew := func() int { return strings.Count(log.String(), "the control plane asks to connect anew") }
	x := p.proxy("shop/boards-1", boards)
	for generation, services := range [][]string{1: {"a", "b"}, 2: {"b"}, 3: {"b", "c"}} {
		if generation == 0 {
			continue
		}
		c := config("shop/boards-1", boards, services...)
		before := anew()
		p.set(uint64(generation), c)
		same(t, c, x.next(t))
		p.until("connected anew", func() bool { return anew() > before && p.status("shop/boards-1").AckedGeneration == uint64(generation) })
	}
	if len(x.configs) != 0 {
		t.Error("a configuration was handed over again")
	}
	if strings.Contains(log.String(), "level=WARN") {
		t.Errorf("log:\n%s", log.String())
	}
}

// lockedBuffer is a log that goroutines write and a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestRefusedProxies(t *testing.T) {
	p := newPlane(t)
	p.set(1, config("shop/boards-1", boards))
	for _, tt := range []struct {
		node string
		id   spiffeid.ID
		want string
	}{
		{"shop/boards-1", rogue, "PermissionDenied desc = the workload is not this identity's: shop/boards-1 is " + boards.String() + ", not " + rogue.String()},
		{"shop/nobody-1", boards, "NotFound desc = there is no such workload: shop/nobody-1"},
		{"boards-1", boards, "InvalidArgument desc = node.id must be NAMESPACE/NAME of the workload"},
	} {
		t.Run(tt.node+" as "+tt.id.Path(), func(t *testing.T) {
			q := *p
			q.t = t
			x := q.proxy(tt.node, tt.id)
			deadline := time.Now().Add(patience)
			for x.client.Status().Err == nil || !strings.Contains(x.client.Status().Err.Error(), tt.want) {
				if time.Now().After(deadline) {
					t.Fatalf("got %v\nwant %s", x.client.Status().Err, tt.want)
				}
				<-time.After(5 * time.Millisecond)
			}
			if len(x.configs) != 0 {
				t.Error("it was told a configuration")
			}
		})
	}
}

// A workload that is deleted loses its stream and its place in the status.
func TestWorkloadDeleted(t *testing.T) {
	p := newPlane(t)
	p.set(1, config("shop/boards-1", boards))
	x := p.proxy("shop/boards-1", boards)
	x.next(t)
	p.world.mu.Lock()
	delete(p.world.configs, "shop/boards-1")
	p.world.mu.Unlock()
	p.xds.Notify(2)
	p.until("disconnected", func() bool { return !p.status("shop/boards-1").Connected })
	p.xds.Forget("shop/boards-1")
	if n := len(p.xds.Status()); n != 0 {
		t.Errorf("%d proxies are left", n)
	}
}

// A configuration that cannot be made leaves a connected proxy with what it has,
// and the status says why.
func TestSourceFails(t *testing.T) {
	p := newPlane(t)
	c := config("shop/boards-1", boards, "a")
	p.set(1, c)
	x := p.proxy("shop/boards-1", boards)
	x.next(t)
	bad := *c
	bad.Outbound.Clusters = nil
	p.set(2, &bad)
	err := p.wait(2)
	if want := `xds/server: shop/boards-1 cannot be told: xds: listener 10.96.0.0_8080: there is no cluster "outbound|8080||a.shop.svc.cluster.local"`; err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %s", err, want)
	}
	c.TrustDomain = "other"
	p.set(3, c)
	same(t, c, x.next(t))
	if err := p.wait(3); err != nil {
		t.Fatal(err)
	}
}

// Many changes in a row become few, and the last one wins.
func TestManyChanges(t *testing.T) {
	p := newPlane(t)
	var proxies []*proxy
	var last []*mesh.ProxyConfig
	for i := range 5 {
		node := fmt.Sprintf("shop/boards-%d", i)
		p.set(1, config(node, boards))
		proxies = append(proxies, p.proxy(node, boards))
	}
	for g := uint64(2); g <= 60; g++ {
		last = nil
		for i := range proxies {
			c := config(fmt.Sprintf("shop/boards-%d", i), boards, fmt.Sprint("a", g%3), fmt.Sprint("b", g%5), fmt.Sprint("c", g))
			last = append(last, c)
			p.set(g, c)
		}
	}
	nodes := []string{"shop/boards-0", "shop/boards-1", "shop/boards-2", "shop/boards-3", "shop/boards-4"}
	if err := p.wait(60, nodes...); err != nil {
		t.Fatal(err)
	}
	for i, x := range proxies {
		var got *mesh.ProxyConfig
		for len(x.configs) > 0 {
			got = <-x.configs
		}
		same(t, last[i], got)
	}
}

// Much more than fits into the buffers of a connection, both ways.
func TestLargeConfiguration(t *testing.T) {
	p := newPlane(t)
	c := config("shop/boards-1", boards)
	for i := range 1500 {
		name := fmt.Sprintf("outbound|8080||%s-%05d.shop.svc.cluster.local", strings.Repeat("x", 100), i)
		c.Outbound.Clusters = append(c.Outbound.Clusters, mesh.Cluster{Name: name, Hostname: "h", Port: 8080, TLS: mesh.ClientTLS{Auto: true}})
	}
	p.set(1, c)
	x := p.proxy("shop/boards-1", boards)
	same(t, c, x.next(t))
	if err := p.wait(1, "shop/boards-1"); err != nil {
		t.Fatal(err)
	}
}

// A stream ends with the certificate that opened it, and the proxy comes back
// with the renewed one; nobody is told anything twice.
func TestStreamEndsWithItsCertificate(t *testing.T) {
	// The authority's clock is late, so that what lives 30 s has 5 s left: long
	// enough for a busy machine to use it before it ends.
	p := newPlaneAt(t, func() time.Time { return time.Now().Add(5*time.Second - ca.MinLeafTTL) })
	c := config("shop/boards-1", boards, "a")
	p.set(1, c)
	x := p.proxyFor("shop/boards-1", boards, ca.MinLeafTTL)
	same(t, c, x.next(t))
	p.until("connected", func() bool { return p.status("shop/boards-1").Connected })
	first := p.status("shop/boards-1").ConnectedAt
	p.until("connected again", func() bool {
		st := p.status("shop/boards-1")
		return st.Connected && st.ConnectedAt.After(first)
	})
	if err := p.wait(1, "shop/boards-1"); err != nil {
		t.Fatal(err)
	}
	c.TrustDomain = "other"
	p.set(2, c)
	same(t, c, x.next(t))
}
