package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"hasp/ca"
	"hasp/mesh"
	"hasp/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	td     = spiffeid.RequireTrustDomainFromString("cluster.local")
	istiod = spiffeid.RequireFromString("spiffe://cluster.local/ns/istio-system/sa/istiod")
	boards = spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/boards")
)

const node = "shop/boards-1"

// one is a Source with one proxy.
type one struct {
	mu  sync.Mutex
	cfg mesh.ProxyConfig
}

func (o *one) ConfigFor(string, spiffeid.ID) (*mesh.ProxyConfig, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.cfg
	return &c, nil
}

type fixture struct {
	t    *testing.T
	src  *one
	srv  *Server
	ca   *ca.CA
	addr string
}

func newFixture(t *testing.T, cfg Config) *fixture {
	t.Helper()
	f := &fixture{t: t, src: &one{cfg: mesh.ProxyConfig{Generation: 1, Node: node, Identity: boards.String(), TrustDomain: "cluster.local", Role: mesh.RoleSidecar}}}
	var err error
	if f.ca, err = ca.Load(ca.Config{Dir: t.TempDir(), TrustDomain: td}); err != nil {
		t.Fatal(err)
	}
	self, err := f.ca.Server(istiod)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Source, cfg.Log = f.src, slog.New(slog.DiscardHandler)
	if f.srv, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(Options(self)...)
	f.srv.Register(g)
	var eg errgroup.Group
	eg.Go(func() error { return g.Serve(ln) })
	f.addr = ln.Addr().String()
	t.Cleanup(func() { g.Stop(); eg.Wait() })
	return f
}

func (f *fixture) change(generation uint64, change func(*mesh.ProxyConfig)) {
	f.src.mu.Lock()
	change(&f.src.cfg)
	f.src.cfg.Generation = generation
	f.src.mu.Unlock()
	f.srv.Notify(generation)
}

func (f *fixture) dial(cert *tls.Certificate) discovery.AggregatedDiscoveryServiceClient {
	f.t.Helper()
	cfg := &tls.Config{InsecureSkipVerify: true}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	conn, err := grpc.NewClient(f.addr, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	return discovery.NewAggregatedDiscoveryServiceClient(conn)
}

func (f *fixture) cert() *tls.Certificate {
	f.t.Helper()
	c, err := f.ca.Issue(boards, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// limit ends a test that would wait for ever.
func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func ads() *corev3.Node { return &corev3.Node{Id: node} }

func TestNeedsAClientCertificate(t *testing.T) {
	f := newFixture(t, Config{})
	stream, err := f.dial(nil).DeltaAggregatedResources(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	if status.Code(err) != codes.Unauthenticated || status.Convert(err).Message() != "a client certificate is required" {
		t.Error(err)
	}
}

// A certificate of another authority does not get through the handshake.
func TestForeignCertificate(t *testing.T) {
	f := newFixture(t, Config{})
	other, err := ca.Load(ca.Config{Dir: t.TempDir(), TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := other.Issue(boards, 0)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := f.dial(cert).DeltaAggregatedResources(limit(t))
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	f := newFixture(t, Config{MaxStreams: 1})
	client := f.dial(f.cert())
	first, err := client.DeltaAggregatedResources(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Send(&discovery.DeltaDiscoveryRequest{Node: ads(), TypeUrl: xds.ListenerType}); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Recv(); err != nil {
		t.Fatal(err)
	}
	second, err := client.DeltaAggregatedResources(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
}

// An Envoy asks and acknowledges type by type.
func TestDelta(t *testing.T) {
	f := newFixture(t, Config{})
	stream, err := f.dial(f.cert()).DeltaAggregatedResources(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	send := func(r *discovery.DeltaDiscoveryRequest) {
		t.Helper()
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(kind string, up, gone []string) *discovery.DeltaDiscoveryResponse {
		t.Helper()
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, res := range r.Resources {
			names = append(names, res.Name)
		}
		if r.TypeUrl != kind || !slices.Equal(names, up) || !slices.Equal(r.RemovedResources, gone) {
			t.Fatalf("%s: got %v and removed %v, want %s: %v and %v", r.TypeUrl, names, r.RemovedResources, kind, up, gone)
		}
		return r
	}
	ack := func(r *discovery.DeltaDiscoveryResponse) {
		send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce})
	}

	send(&discovery.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "sidecar~10.77.0.5~boards-1.shop~shop.svc.cluster.local"}, TypeUrl: xds.ClusterType})
	clusters := expect(xds.ClusterType, []string{"BlackHoleCluster", "InboundPassthroughCluster"}, nil)
	if clusters.SystemVersionInfo != "1" {
		t.Errorf("generation %q", clusters.SystemVersionInfo)
	}
	ack(clusters)
	send(&discovery.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/some.Other"}) // not ours, not answered
	send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.ListenerType})
	ack(expect(xds.ListenerType, []string{"virtualInbound", "virtualOutbound"}, nil))
	send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.EndpointType, ResourceNamesSubscribe: []string{"nothing"}})
	ack(expect(xds.EndpointType, nil, []string{"nothing"}))
	if err := f.srv.WaitAcked(limit(t), 1, node); err != nil {
		t.Fatal(err)
	}

	// While an answer is missing, newer generations wait; what comes then is the
	// newest. Additions come before what refers to them, removals after.
	f.change(2, func(c *mesh.ProxyConfig) { c.Outbound.AllowAny = true })
	clusters = expect(xds.ClusterType, []string{"PassthroughCluster"}, nil)
	listeners := expect(xds.ListenerType, []string{"virtualOutbound"}, nil)
	f.change(3, func(c *mesh.ProxyConfig) { c.Inbound.Default.Mode = mesh.ModeStrict })
	f.change(4, func(c *mesh.ProxyConfig) { c.Outbound.AllowAny = false })
	ack(clusters)
	ack(listeners)
	listeners = expect(xds.ListenerType, []string{"virtualInbound", "virtualOutbound"}, nil)
	clusters = expect(xds.ClusterType, nil, []string{"PassthroughCluster"})
	if listeners.SystemVersionInfo != "4" {
		t.Errorf("generation %q", listeners.SystemVersionInfo)
	}
	ack(clusters)
	send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.ListenerType, ResponseNonce: listeners.Nonce, ErrorDetail: &rpcstatus.Status{Code: 3, Message: "no such filter"}})
	err = f.srv.WaitAcked(limit(t), 4, node)
	if want := "xds/server: shop/boards-1 refused generation 4: no such filter"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}

	// A name subscribed to again is sent again.
	send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.ListenerType, ResourceNamesSubscribe: []string{"virtualInbound"}})
	ack(expect(xds.ListenerType, []string{"virtualInbound"}, nil))
}

// gRPC and older Envoys speak the state of the world.
func TestWhole(t *testing.T) {
	f := newFixture(t, Config{})
	stream, err := f.dial(f.cert()).StreamAggregatedResources(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	send := func(r *discovery.DiscoveryRequest) {
		t.Helper()
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(kind string, n int) *discovery.DiscoveryResponse {
		t.Helper()
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if r.TypeUrl != kind || len(r.Resources) != n || r.VersionInfo == "" {
			t.Fatalf("got %d of %s in version %q, want %d of %s", len(r.Resources), r.TypeUrl, r.VersionInfo, n, kind)
		}
		return r
	}
	ack := func(r *discovery.DiscoveryResponse, names ...string) {
		send(&discovery.DiscoveryRequest{TypeUrl: r.TypeUrl, VersionInfo: r.VersionInfo, ResponseNonce: r.Nonce, ResourceNames: names})
	}
	send(&discovery.DiscoveryRequest{Node: ads(), TypeUrl: xds.ListenerType})
	listeners := expect(xds.ListenerType, 2)
	ack(listeners)
	send(&discovery.DiscoveryRequest{TypeUrl: xds.ClusterType})
	clusters := expect(xds.ClusterType, 2)
	ack(clusters)
	send(&discovery.DiscoveryRequest{TypeUrl: xds.EndpointType, ResourceNames: []string{"nothing"}})
	endpoints := expect(xds.EndpointType, 0)
	ack(endpoints, "nothing")
	send(&discovery.DiscoveryRequest{TypeUrl: xds.EndpointType, ResponseNonce: endpoints.Nonce, ResourceNames: []string{"nothing", "hasp.peers"}})
	endpoints = expect(xds.EndpointType, 1)
	ack(endpoints, "nothing", "hasp.peers")

	// One listener changes: all of the type comes, of the other types nothing.
	f.change(2, func(c *mesh.ProxyConfig) { c.Inbound.Default.Mode = mesh.ModeStrict })
	second := expect(xds.ListenerType, 2)
	if second.VersionInfo == listeners.VersionInfo {
		t.Error("the version is the same")
	}
	ack(second)
	if err := f.srv.WaitAcked(limit(t), 2, node); err != nil {
		t.Fatal(err)
	}

	// Back to what it was is the version it was.
	f.change(3, func(c *mesh.ProxyConfig) { c.Inbound.Default.Mode = mesh.ModeUnset })
	third := expect(xds.ListenerType, 2)
	if third.VersionInfo != listeners.VersionInfo {
		t.Error("equal contents have different versions")
	}
	send(&discovery.DiscoveryRequest{TypeUrl: xds.ListenerType, VersionInfo: second.VersionInfo, ResponseNonce: third.Nonce, ErrorDetail: &rpcstatus.Status{Message: "no"}})
	err = f.srv.WaitAcked(limit(t), 3, node)
	if want := "xds/server: shop/boards-1 refused generation 3: no"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestNodeName(t *testing.T) {
	for id, want := range map[string]string{
		"shop/boards-1": "shop/boards-1",
		"sidecar~10.77.0.5~boards-1.shop~shop.svc.cluster.local": "shop/boards-1",
		"router~fd77::5~a.b.shop~x":                              "shop/a.b",
		"":                                                       "", "boards": "", "/x": "", "x/": "", "a~b~c~d": "",
	} {
		got, err := nodeName(id)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("nodeName(%q) = %q, %v", id, got, err)
		}
	}
}

func TestRegistryIsBounded(t *testing.T) {
	r := newRegistry(time.Now)
	for i := range maxGone + 50 {
		r.disconnect(r.connect(fmt.Sprint("n/", i), "x"))
	}
	if len(r.nodes) != maxGone {
		t.Errorf("%d proxies are remembered", len(r.nodes))
	}
	if r.nodes["n/0"] != nil || r.nodes[fmt.Sprint("n/", maxGone+49)] == nil {
		t.Error("not the oldest were forgotten")
	}
}

// A proxy that comes back before its old stream ended is connected.
func TestOldStreamEndsLate(t *testing.T) {
	r := newRegistry(time.Now)
	old := r.connect(node, "x")
	r.acked(old, 7, true)
	fresh := r.connect(node, "x")
	r.disconnect(old)
	want := ProxyStatus{Node: node, Identity: "x", Connected: true, ConnectedAt: fresh.status.ConnectedAt, AckedGeneration: 7, AckedAt: old.status.AckedAt}
	if d := cmp.Diff(want, r.nodes[node].status); d != "" {
		t.Error(d)
	}
}
