package control_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/control"
	"hasp/mesh"
	"hasp/proxy"
	"hasp/xds/client"
	"hasp/xds/server"
)

// sidecar is a proxy of the product on loopback, joined to a control plane: at the
// address of its pod, with what its workload would reach behind it.
type sidecar struct {
	*proxy.Proxy
	t      *testing.T
	demand *client.Demand
	line   *line
	port   uint16   // where callers come in
	dst    sync.Map // of what arrives at a listener
}

// line is the way to the control plane, which a test may cut.
type line struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (l *line) dial(ctx context.Context, address string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return nil, errors.New("the line is cut")
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err == nil {
		l.conns = append(l.conns, c)
	}
	return c, err
}

func (l *line) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	if cut {
		for _, c := range l.conns {
			c.Close()
		}
		l.conns = nil
	}
}

// sidecar of the pod shop/NAME at addr. In is the listener for its callers, and app
// where its workload listens.
func (p *plane) sidecar(t *testing.T, name, addr string, in net.Listener, app netip.AddrPort) *sidecar {
	t.Helper()
	s := &sidecar{t: t, demand: client.NewDemand(), line: &line{}, port: netip.MustParseAddrPort(in.Addr().String()).Port()}
	s.dst.Store(in.Addr().String(), app)
	node := "shop/" + name
	svid, log := p.certificate(t, node, web), slog.New(slog.DiscardHandler)
	var err error
	s.Proxy, err = proxy.New(proxy.Config{
		Log: log, Identity: svid, Directory: s.demand,
		Dialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}},
		OrigDst: func(c net.Conn) (netip.AddrPort, error) {
			dst, ok := s.dst.Load(c.LocalAddr().String())
			if !ok {
				return netip.AddrPort{}, errors.New("nobody redirected it")
			}
			return dst.(netip.AddrPort), nil
		},
		Listening: func(netip.AddrPort) (bool, error) { return true, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Target: p.addr, Node: node, TLS: svid.ControlPlaneTLS, Dial: s.line.dial, Log: log,
		Demand: s.demand, OnConfig: s.Apply})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	run(t, "sidecar "+node, func(ctx context.Context) error { return s.Run(ctx, proxy.Listeners{Inbound: in}) })
	run(t, "xDS of "+node, c.Run)
	wait(t, node+" has its configuration", func() bool { return s.Generation() > 0 })
	return s
}

// echo listens and says its name to whoever connects.
func echo(t *testing.T, addr, name string) netip.AddrPort {
	t.Helper()
	ln := listenAt(t, addr)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				fmt.Fprint(c, name)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return netip.MustParseAddrPort(ln.Addr().String())
}

func listenAt(t *testing.T, addr string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// open a captured connection to dst, as the workload beside the sidecar does. Each
// has a listener of its own, which stands for where it was going.
func (s *sidecar) open(dst netip.AddrPort) net.Conn {
	s.t.Helper()
	ln := listenAt(s.t, "127.0.0.1")
	s.dst.Store(ln.Addr().String(), dst)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.ServeOutbound(ctx, ln)
	}()
	s.t.Cleanup(func() { stop(); <-done })
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// call dst and read what is said there.
func (s *sidecar) call(dst netip.AddrPort) (string, mesh.Connection) {
	s.t.Helper()
	conn := s.open(dst)
	defer conn.Close()
	said, _ := io.ReadAll(conn)
	conn.Close()
	var row mesh.Connection
	wait(s.t, "the connection has ended", func() bool {
		for _, c := range s.Connections() {
			if c.Direction == mesh.OutboundDir && c.Source.String() == conn.LocalAddr().String() {
				row = c
			}
		}
		return !row.End.IsZero()
	})
	return string(said), row
}

const (
	clientAddr = "127.0.0.3"
	serverAddr = "127.0.0.2"
)

func service(name, ip string, port, target uint16) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: shop}
spec: {clusterIP: %s, selector: {app: web}, ports: [{port: %d, targetPort: %d}]}
`, name, ip, port, target)
}

// pair is a client and a server in a mesh that is told on demand, with the service
// web at 10.96.0.1:80 and others that nobody calls.
func pair(t *testing.T, change func(*control.Config), more ...string) (p *plane, client, server *sidecar) {
	t.Helper()
	in := listenAt(t, serverAddr)
	app := echo(t, "127.0.0.1", "web")
	port := netip.MustParseAddrPort(in.Addr().String()).Port()
	objects := append([]string{
		strings.ReplaceAll(pod("client", clientAddr), "app: web", "app: client"), pod("server", serverAddr),
		service("web", "10.96.0.1", 80, port), service("other", "10.96.0.2", 80, port), service("more", "10.96.0.3", 80, port), strict,
	}, more...)
	p = startAs(t, change, objects...)
	server = p.sidecar(t, "server", serverAddr, in, app)
	client = p.sidecar(t, "client", clientAddr, listenAt(t, clientAddr), netip.AddrPort{})
	return p, client, server
}

func always(c *control.Config) { c.OnDemand = 1 }

var webAt = netip.MustParseAddrPort("10.96.0.1:80")

func inbound(s *sidecar) (rows []mesh.Connection) {
	for _, c := range s.Connections() {
		if c.Direction == mesh.InboundDir {
			rows = append(rows, c)
		}
	}
	return rows
}

// TestOnDemand: a proxy learns a service when its workload first calls it, and a
// caller when it first calls; nothing else.
func TestOnDemand(t *testing.T) {
	p, client, server := pair(t, always)
	if k := client.Known(); !k.OnDemand || k.Listeners+k.Clusters+k.Peers+k.AskedServices != 0 {
		t.Errorf("before the first call: %+v", k)
	}
	said, c := client.call(webAt)
	if said != "web" || c.Security != mesh.MutualTLS || c.PeerWorkload != "shop/server" {
		t.Fatalf("it said %q: %+v", said, c)
	}
	if k := client.Known(); k.Listeners != 1 || k.Clusters != 1 || k.Endpoints != 1 || k.AskedServices != 1 {
		t.Errorf("after the first call: %+v", k)
	}
	wait(t, "the server knows who called", func() bool {
		in := inbound(server)
		return len(in) == 1 && in[0].PeerWorkload == "shop/client" && in[0].Mode == string(mesh.ModeStrict) && in[0].Rule.Name == "default"
	})
	if k := server.Known(); k.Peers != 1 || k.Listeners != 0 {
		t.Errorf("the server: %+v", k)
	}
	if !p.Status().OnDemand {
		t.Error("the status does not say that the mesh is told on demand")
	}
	for _, s := range p.Status().Proxies {
		if !s.OnDemand || s.Node == "shop/client" && s.Services != 1 || s.Node == "shop/server" && s.Peers != 1 {
			t.Errorf("status: %+v", s)
		}
	}

	// No service is there: plaintext goes where it was going, and the answer is
	// remembered.
	outside := echo(t, "127.0.0.9", "outside")
	for range 2 {
		if said, c = client.call(outside); said != "outside" || c.Cluster != "PassthroughCluster" || c.Security != mesh.Plaintext {
			t.Fatalf("it said %q: %+v", said, c)
		}
	}
	if k := client.Known(); k.AskedServices != 2 || k.Listeners != 1 {
		t.Errorf("after a call to a stranger: %+v", k)
	}
	// Then there is one at the same address.
	port := server.port
	p.apply(t, service("late", "127.0.0.9", outside.Port(), port))
	wait(t, "the service that came later is known", func() bool { return client.Known().Listeners == 2 })
	if said, c = client.call(outside); said != "web" || c.Security != mesh.MutualTLS {
		t.Errorf("it said %q: %+v", said, c)
	}
	// And is gone again.
	late := parse(t, service("late", "127.0.0.9", outside.Port(), port))
	if err := p.resource(t, late).Delete(t.Context(), "late", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(t, "the service that went is forgotten", func() bool { return client.Known().Listeners == 1 })
	if said, c = client.call(outside); said != "outside" || c.Security != mesh.Plaintext {
		t.Errorf("it said %q: %+v", said, c)
	}
}

// TestOnDemandAway: what is known goes on without the control plane; what is not
// fails, and is no stranger that may have plaintext. Then all is as it should be.
func TestOnDemandAway(t *testing.T) {
	p, client, _ := pair(t, always)
	if said, c := client.call(webAt); said != "web" {
		t.Fatalf("it said %q: %+v", said, c)
	}
	outside := echo(t, "127.0.0.9", "outside")
	client.line.set(true)
	if said, c := client.call(webAt); said != "web" || c.Security != mesh.MutualTLS {
		t.Errorf("it said %q: %+v", said, c)
	}
	said, c := client.call(outside)
	if said != "" || c.Allowed || c.Failure == nil || c.Failure.Reason != mesh.ReasonNoConfiguration ||
		!strings.Contains(c.Why, "the control plane has not said whether a service is at "+outside.String()+": the control plane is away") {
		t.Errorf("it said %q: %+v", said, c)
	}
	// Meanwhile web goes away, which the client is told when it is back.
	gone := parse(t, service("web", "10.96.0.1", 80, 1))
	if err := p.resource(t, gone).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	client.line.set(false)
	wait(t, "web is gone, and the answer of before has come", func() bool {
		return client.Known().Listeners == 0 && client.demand.KnowsService(outside) && client.demand.KnowsService(webAt)
	})
	if said, c := client.call(outside); said != "outside" || c.Security != mesh.Plaintext {
		t.Errorf("it said %q: %+v", said, c)
	}
}

// TestOnDemandFromASize: a mesh that grows past the size is told on demand from then
// on and whole again when it shrinks, and connections that live stay and are judged.
func TestOnDemandFromASize(t *testing.T) {
	p, client, server := pair(t, func(c *control.Config) { c.OnDemand = 5 })
	if k := client.Known(); k.OnDemand || k.Listeners != 3 || p.Status().OnDemand {
		t.Fatalf("a small mesh: %+v", k)
	}
	conn := client.open(webAt)
	if _, err := io.ReadFull(conn, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	alive := func() bool {
		for _, c := range client.Connections() {
			if c.Destination == webAt && c.End.IsZero() && c.Allowed {
				return true
			}
		}
		return false
	}
	for i := range 2 {
		p.apply(t, service(fmt.Sprint("grown", i), fmt.Sprint("10.96.1.", i+1), 80, server.port))
	}
	wait(t, "the client is told on demand, and has asked for what it is connected to", func() bool {
		k := client.Known()
		return k.OnDemand && k.Listeners == 1 && k.Clusters == 1
	})
	if !alive() {
		t.Error("the connection ended when the mesh became too large to be told whole")
	}
	for i := range 2 {
		gone := parse(t, service(fmt.Sprint("grown", i), fmt.Sprint("10.96.1.", i+1), 80, 1))
		if err := p.resource(t, gone).Delete(t.Context(), gone.GetName(), metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, "the client is told all again", func() bool { k := client.Known(); return !k.OnDemand && k.Listeners == 3 })
	if !alive() {
		t.Error("the connection ended when the mesh was small again")
	}
	if said, c := client.call(webAt); said != "web" || c.Security != mesh.MutualTLS {
		t.Errorf("it said %q: %+v", said, c)
	}
}

// TestParseOnDemand: what people write.
func TestParseOnDemand(t *testing.T) {
	for text, want := range map[string]int{
		"always": 1, "never": -1, "1": 1, "500": 500, "2000000000": 2000000000,
		"": 0, "0": 0, "-1": 0, "1e3": 0, "Always": 0, "9999999999": 0, // refused
	} {
		if got, err := control.ParseOnDemand(text); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

// TestOnDemandOfNothingElse: what a proxy did not ask for costs it nothing, and what
// it refused is not taken for told.
func TestOnDemandOfNothingElse(t *testing.T) {
	p, client, server := pair(t, always)
	if said, c := client.call(webAt); said != "web" {
		t.Fatalf("it said %q: %+v", said, c)
	}
	applied, pushes := client.Generation(), p.Status().Pushes
	p.apply(t, service("nobodys", "10.96.0.77", 80, server.port+1))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	wait(t, "there is a World with it", func() bool { return p.World().Service("shop", "nobodys.shop.svc.cluster.local") != nil })
	if err := p.Enforced(ctx, p.World().Generation); err != nil {
		t.Fatal(err)
	}
	// It has another port of the server, whose own configuration has it.
	if got := client.Generation(); got != applied {
		t.Errorf("the client went from generation %d to %d for a service that it does not call", applied, got)
	}
	if got := p.Status().Pushes; got != pushes+1 {
		t.Errorf("%d proxies were told, 1 is concerned", got-pushes)
	}
}

var _ server.Selective = (*control.Control)(nil)

// TestOnDemandForWhoCan: whoever does not say that it can be told on demand, an Envoy
// or an older proxy, is told all of a mesh of any size.
func TestOnDemandForWhoCan(t *testing.T) {
	p := startAs(t, always, pod("web-1", "10.0.0.1"), service("web", "10.96.0.1", 80, 8080), service("other", "10.96.0.2", 80, 8080))
	configs := p.proxy(t, "shop/web-1", web)
	until(t, configs, "all of the mesh is", func(c *mesh.ProxyConfig) bool {
		return !c.OnDemand && len(c.Outbound.Listeners) == 2 && len(c.Outbound.Clusters) == 2 && len(c.Peers) == 1
	})
	p.apply(t, service("more", "10.96.0.3", 80, 8080))
	until(t, configs, "what came is", func(c *mesh.ProxyConfig) bool { return len(c.Outbound.Listeners) == 3 })
}
