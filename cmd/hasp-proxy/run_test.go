package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"hasp/ca"
	"hasp/ca/csr"
	"hasp/mesh"
	"hasp/xds/server"
)

// asProgram makes the test binary the program itself.
const asProgram = "HASP_PROXY_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// plane is a control plane with one configuration to give.
type plane struct {
	t      *testing.T
	ca     *ca.CA
	tokens *ca.Tokens
	addr   string
	xds    *server.Server
	stop   func()

	mu     sync.Mutex
	config *mesh.ProxyConfig
	told   []*mesh.Report
}

func (p *plane) report(_ string, _ spiffeid.ID, r *mesh.Report) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = append(p.told, r)
	return nil
}

// hasToldOf waits until the proxy has reported an edge to a service.
func (p *plane) hasToldOf(service string) {
	p.t.Helper()
	told := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, r := range p.told {
			for _, e := range r.Edges {
				if e.Service == service {
					return true
				}
			}
		}
		return false
	}
	for deadline := time.Now().Add(time.Minute); !told(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("no report of %s in time: %+v", service, p.told)
		}
	}
}

func (p *plane) ConfigFor(string, spiffeid.ID) (*mesh.ProxyConfig, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.config, nil
}

func (p *plane) set(c mesh.ProxyConfig) {
	p.mu.Lock()
	p.config = &c
	p.mu.Unlock()
	p.xds.Notify(c.Generation)
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	authority, err := ca.Load(ca.Config{Dir: t.TempDir(), TrustDomain: spiffeid.RequireTrustDomainFromString("cluster.local")})
	if err != nil {
		t.Fatal(err)
	}
	return newReplica(t, authority)
}

// newReplica is one of several control planes with the same authority.
func newReplica(t *testing.T, authority *ca.CA, more ...csr.Verifier) *plane {
	t.Helper()
	p := &plane{t: t, tokens: ca.NewTokens(0, nil), ca: authority}
	var err error
	quiet := slog.New(slog.DiscardHandler)
	self, err := p.ca.Server(spiffeid.RequireFromString(istiod))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := csr.NewServer(csr.ServerConfig{CA: p.ca, Verifiers: append(more, csr.JoinTokens{Tokens: p.tokens}), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if p.xds, err = server.New(server.Config{
		Source: p, Log: quiet, Reports: p.report, MayReport: func(string, spiffeid.ID) error { return nil },
	}); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(server.Options(self)...)
	signer.Register(g)
	p.xds.Register(g)
	var eg errgroup.Group
	eg.Go(func() error { return g.Serve(ln) })
	p.addr = ln.Addr().String()
	p.stop = sync.OnceFunc(func() { g.Stop(); _ = eg.Wait() })
	t.Cleanup(p.stop)
	return p
}

const (
	istiod  = "spiffe://cluster.local/ns/istio-system/sa/istiod"
	gateway = "spiffe://cluster.local/ns/shop/sa/gateway"
)

// The whole process without a kernel's capture: a gateway that gets its token,
// its certificate, its configuration and its socket, serves, goes on serving
// when its control plane is away, and drains.
func TestGatewayProcess(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "page ", r.URL.Path) }))
	defer backend.Close()
	at := netip.MustParseAddrPort(backend.Listener.Addr().String())
	p := newPlane(t)
	p.set(gatewayConfig(1, 8080, at))

	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	frontFile, err := front.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	id := spiffeid.RequireFromString(gateway)
	token, err := p.tokens.Issue(id, "shop/gateway-1", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 3)
	boot := mesh.Bootstrap{
		Node: "shop/gateway-1", Identity: gateway, Role: mesh.RoleGateway,
		ControlPlane: p.addr, ControlPlaneID: istiod, Roots: string(p.ca.Bundle()), Token: token,
		Inherited: map[uint16]int{8080: given(t, frontFile)},
		AdminPort: ports[0], HealthPort: ports[1], MetricsPort: ports[2],
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var logs, access lockedBuffer
	done := make(chan error, 1)
	handed, err := readBootstrap(pipeOf(t, boot))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		err := run(ctx, handed, options{accessLog: "text", drain: time.Second}, &access, &logs)
		fmt.Fprintln(&logs, "run ended:", err)
		done <- err
	}()

	eventually(t, &logs, fmt.Sprintf("http://127.0.0.1:%d/healthz/ready", boot.HealthPort), "LIVE\n")
	page := "http://" + front.Addr().String()
	eventually(t, &logs, page+"/boards", "page /boards")
	if line := access.String(); !strings.Contains(line, `"GET /boards HTTP/1.1" 200 -`) {
		t.Errorf("access log: %s", line)
	}
	stats := fmt.Sprintf("http://127.0.0.1:%d/stats/prometheus", boot.MetricsPort)
	eventually(t, &logs, stats, "hasp_control_plane_connected 1\n")
	p.hasToldOf("ui.shop.svc.cluster.local")
	p.stop() // the control plane goes away
	eventually(t, &logs, stats, "hasp_control_plane_connected 0\n")
	eventually(t, &logs, page+"/again", "page /again")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v\n%s", err, logs.String())
	}
}

// gatewayConfig serves everything on a port from one plaintext endpoint.
func gatewayConfig(generation uint64, port uint16, at netip.AddrPort) mesh.ProxyConfig {
	const cluster = "outbound|80||ui.shop.svc.cluster.local"
	return mesh.ProxyConfig{
		Generation: generation, Node: "shop/gateway-1", Identity: gateway, TrustDomain: "cluster.local", Role: mesh.RoleGateway,
		Outbound: mesh.Outbound{Clusters: []mesh.Cluster{{
			Name: cluster, Hostname: "ui.shop.svc.cluster.local", Namespace: "shop", Port: 80, Protocol: mesh.HTTP,
			TLS:       mesh.ClientTLS{Mode: mesh.ClientDisable},
			Endpoints: []mesh.Endpoint{{ServicePort: 80, Addr: at.Addr(), Port: at.Port()}},
		}}},
		Gateway: []mesh.Server{{
			Name: "http", Port: port, Protocol: mesh.HTTP, Hosts: []string{"*"},
			Routes: []mesh.HTTPRoute{{Hosts: []string{"*"}, To: []mesh.WeightedTarget{{Cluster: cluster}}}},
		}},
	}
}

func TestBootstrapThatCannotWork(t *testing.T) {
	good := mesh.Bootstrap{Node: "shop/x", Identity: gateway, Role: mesh.RoleGateway, ControlPlane: "127.0.0.1:1", ControlPlaneID: istiod, Roots: "no PEM"}
	bad := good
	bad.Identity = "gateway"
	for _, tc := range []struct {
		boot mesh.Bootstrap
		want string
	}{
		{good, "csr: the roots hold no certificate"},
		{bad, `bootstrap: identity "gateway": scheme is missing or invalid`},
	} {
		err := run(t.Context(), &tc.boot, options{}, io.Discard, io.Discard)
		if err == nil || err.Error() != tc.want {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
}

// pipeOf is a descriptor that the bootstrap can be read from.
func pipeOf(t *testing.T, b mesh.Bootstrap) int {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := json.NewEncoder(w).Encode(b); err != nil {
		t.Fatal(err)
	}
	return given(t, r)
}

// given is a descriptor of f for the proxy to own; f is closed.
func given(t *testing.T, f *os.File) int {
	t.Helper()
	defer f.Close()
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// freePorts are n different ports that no outgoing connection on this machine
// takes meanwhile: they are below the ephemeral ports.
func freePorts(t *testing.T, n int) []uint16 {
	t.Helper()
	var out []uint16
	for range 100 {
		port := uint16(20_000 + rand.IntN(10_000))
		ln, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			continue
		}
		defer ln.Close() // not before all are chosen
		if out = append(out, port); len(out) == n {
			return out
		}
	}
	t.Fatal("no free ports")
	return nil
}

// eventually gets a URL until the answer has what it should.
func eventually(t *testing.T, logs fmt.Stringer, url, want string) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	var got string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		res, err := client.Get(url)
		if err != nil {
			got = err.Error()
			continue
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if got = string(b); strings.Contains(got, want) {
			return
		}
	}
	t.Fatalf("%s: got %q, want %q\n%s", url, got, want, logs)
}

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
