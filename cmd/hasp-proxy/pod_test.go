package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"

	"hasp/ca/csr"
	"hasp/mesh"
)

var boards = podNames{Name: "boards-1", Namespace: "shop", Account: "boards"}

func TestPodBootstrap(t *testing.T) {
	ports := mesh.Bootstrap{OutboundPort: 15001, InboundPort: 15006, AdminPort: 15000, HealthPort: 15021, MetricsPort: 15090}
	byDefault, all := ports, ports
	byDefault.Role = mesh.RoleSidecar
	byDefault.Node, byDefault.Identity = "shop/boards-1", "spiffe://cluster.local/ns/shop/sa/boards"
	byDefault.ControlPlane, byDefault.ControlPlaneID = "istiod.istio-system.svc:15012", istiod
	byDefault.TokenFile, byDefault.RootsFile = "/var/run/secrets/tokens/istio-token", "/var/run/secrets/istio/root-cert.pem"
	all.Role = mesh.RoleSidecar
	all.Node, all.Identity = "shop/boards-1", "spiffe://corp.example/ns/shop/sa/boards"
	all.ControlPlane, all.ControlPlaneID = "10.0.0.1:15012", "spiffe://corp.example/ns/mesh/sa/plane"
	all.CA, all.CAName = "istio-csr.cert-manager.svc:443", "istio-csr.example"
	all.TokenFile, all.RootsFile, all.CertLifetime = "/t", "/r", 3600
	all.Probes = []mesh.Probe{{Kind: mesh.ProbeHTTP, Port: 8080, Path: "/up", Headers: []mesh.ProbeHeader{{Name: "X", Value: "y"}}}}
	gatewayBoot := byDefault
	gatewayBoot.Role = mesh.RoleGateway
	gatewayBoot.CA, gatewayBoot.CAName = "istio-csr.cert-manager.svc:443", "istio-csr.cert-manager.svc"
	for _, tc := range []struct {
		args string
		want mesh.Bootstrap
	}{
		{"sidecar", byDefault},
		{"sidecar --control-plane=10.0.0.1:15012 --trust-domain=corp.example --control-plane-id=spiffe://corp.example/ns/mesh/sa/plane" +
			" --ca=istio-csr.cert-manager.svc:443 --ca-name=istio-csr.example --token-file=/t --roots-file=/r --cert-lifetime=1h" +
			` --probes=[{"kind":"http","port":8080,"path":"/up","headers":[{"name":"X","value":"y"}],"newer":true}]`, all},
		{"gateway --ca istio-csr.cert-manager.svc:443", gatewayBoot},
	} {
		c, err := parse(strings.Fields(tc.args), boards, io.Discard)
		if err != nil {
			t.Errorf("%s: %v", tc.args, err)
			continue
		}
		if d := cmp.Diff(&tc.want, c.boot); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.args, d)
		}
	}
}

func TestPodFlagsRefused(t *testing.T) {
	for _, tc := range []struct {
		names podNames
		args  string
		want  string
	}{
		{podNames{Name: "a", Namespace: "b"}, "sidecar", "hasp-proxy sidecar: SERVICE_ACCOUNT is not set: the container needs an env entry of that name with the fieldRef spec.serviceAccountName\n"},
		{boards, "sidecar --control-plane istiod", "hasp-proxy sidecar: --control-plane \"istiod\": it is HOST:PORT\n"},
		{boards, "gateway --ca :443", "hasp-proxy gateway: --ca \":443\": it is HOST:PORT\n"},
		{boards, "sidecar --drain -1s", "hasp-proxy sidecar: --drain -1s: it is not negative\n"},
		{boards, "sidecar --cert-lifetime -1s", "hasp-proxy sidecar: bootstrap: certLifetime and mark are not negative\n"},
		{boards, "sidecar --roots-file=", "hasp-proxy sidecar: bootstrap: roots is missing\n"},
		{boards, "sidecar --probes={}", "hasp-proxy sidecar: --probes: json: cannot unmarshal object into Go value of type []mesh.Probe\n"},
		{boards, `sidecar --probes=[{"kind":"tcp"}]`, "hasp-proxy sidecar: --probes: number 1 names no kind or no port\n"},
		{boards, "gateway left", "hasp-proxy gateway: unexpected argument \"left\"\n"},
	} {
		var out strings.Builder
		if _, err := parse(strings.Fields(tc.args), tc.names, &out); err == nil || out.String() != tc.want {
			t.Errorf("%s: got %q (%v), want %q", tc.args, out.String(), err, tc.want)
		}
	}
	many := "[" + strings.Repeat(`{"kind":"tcp","port":1},`, mesh.MaxProbes) + `{"kind":"tcp","port":1}]`
	if _, err := parseProbes(many); err == nil || err.Error() != "--probes: 513 are more than 512" {
		t.Errorf("many probes: %v", err)
	}
}

func FuzzParseProbes(f *testing.F) {
	f.Add(`[{"kind":"http","port":8080,"path":"/up","headers":[{"name":"X","value":"y"}]}]`)
	f.Add(`[{"kind":"grpc","port":65536}]`)
	f.Fuzz(func(t *testing.T, s string) {
		list, err := parseProbes(s)
		for _, p := range list {
			if err != nil || p.Port == 0 || p.Kind == "" {
				t.Errorf("%+v with %v", p, err)
			}
		}
	})
}

// fakeAccount is a cluster that knows one ServiceAccount token.
type fakeAccount struct {
	token string
	id    spiffeid.ID
}

func (f fakeAccount) Verify(_ context.Context, token, _ string) (spiffeid.ID, error) {
	if token != f.token {
		return spiffeid.ID{}, csr.ErrNotMine
	}
	return f.id, nil
}

// The sidecar of a pod: it starts before its files are there and says what it
// waits for, is ready when it has all, follows the other replica when one goes,
// and ends at once when nothing is open, as a Job needs it.
func TestPodSidecar(t *testing.T) {
	const identity = "spiffe://cluster.local/ns/shop/sa/boards"
	account := fakeAccount{"eyJ.e30.c2ln", spiffeid.RequireFromString(identity)}
	first := newPlane(t)
	replicas := []*plane{newReplica(t, first.ca, account), newReplica(t, first.ca, account)}
	first.stop()
	config := mesh.ProxyConfig{Node: "shop/boards-1", Identity: identity, TrustDomain: "cluster.local", Role: mesh.RoleSidecar}
	for _, p := range replicas {
		p.set(config)
	}
	service := newService(t, replicas)

	dir := t.TempDir()
	roots, token := filepath.Join(dir, "root-cert.pem"), filepath.Join(dir, "istio-token")
	c, err := parse([]string{"sidecar", "--control-plane", service.addr, "--roots-file", roots, "--token-file", token, "--drain", "1m"}, boards, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 5)
	b := c.boot
	b.OutboundPort, b.InboundPort, b.AdminPort, b.HealthPort, b.MetricsPort = ports[0], ports[1], ports[2], ports[3], ports[4]
	var logs lockedBuffer
	end := start(t, c, &logs)

	ready := fmt.Sprintf("http://127.0.0.1:%d/healthz/ready", b.HealthPort)
	eventually(t, &logs, ready, "there is no certificate yet: roots: open "+roots+": no such file or directory")
	for name, content := range map[string]string{roots: string(first.ca.Bundle()), token: account.token} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, &logs, ready, "LIVE\n")

	gone := service.last()
	replicas[gone].stop()
	config.Generation, config.Inbound.Default.Mode = 2, mesh.ModeStrict
	replicas[1-gone].set(config)
	eventually(t, &logs, fmt.Sprintf("http://127.0.0.1:%d/config_dump", b.AdminPort), `"mode": "STRICT"`)
	eventually(t, &logs, fmt.Sprintf("http://127.0.0.1:%d/stats/prometheus", b.MetricsPort), "hasp_control_plane_connected 1\n")

	began := time.Now()
	if err := end(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 30*time.Second { // the drain is a minute
		t.Errorf("it took %s to end with nothing open", took)
	}
}

// A pod that is stopped before it ever got a certificate ends well, too.
func TestPodStoppedEarly(t *testing.T) {
	c, err := parse([]string{"gateway", "--roots-file", filepath.Join(t.TempDir(), "none")}, boards, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 3)
	c.boot.AdminPort, c.boot.HealthPort, c.boot.MetricsPort = ports[0], ports[1], ports[2]
	var logs lockedBuffer
	end := start(t, c, &logs)
	eventually(t, &logs, fmt.Sprintf("http://127.0.0.1:%d/healthz/ready", c.boot.HealthPort), "there is no certificate yet")
	if err := end(); err != nil {
		t.Error(err)
	}
}

// The gateway of a pod opens the ports that its configuration names.
func TestPodGateway(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "page ", r.URL.Path) }))
	defer backend.Close()
	account := fakeAccount{"eyJ.e30.c2ln", spiffeid.RequireFromString(gateway)}
	first := newPlane(t)
	first.stop()
	p := newReplica(t, first.ca, account)
	ports := freePorts(t, 4)
	p.set(gatewayConfig(1, ports[3], netip.MustParseAddrPort(backend.Listener.Addr().String())))
	dir := t.TempDir()
	for name, content := range map[string]string{"roots": string(p.ca.Bundle()), "token": account.token} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := parse([]string{"gateway", "--control-plane", p.addr, "--roots-file", filepath.Join(dir, "roots"), "--token-file", filepath.Join(dir, "token")},
		podNames{Name: "gateway-1", Namespace: "shop", Account: "gateway"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c.boot.AdminPort, c.boot.HealthPort, c.boot.MetricsPort = ports[0], ports[1], ports[2]
	var logs lockedBuffer
	end := start(t, c, &logs)
	eventually(t, &logs, fmt.Sprintf("http://127.0.0.1:%d/boards", ports[3]), "page /boards")
	if err := end(); err != nil {
		t.Error(err)
	}
}

// start runs a proxy; what it returns ends it and gives its error.
func start(t *testing.T, c command, logs *lockedBuffer) func() error {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var eg errgroup.Group
	eg.Go(func() error { return run(ctx, c.boot, c.options, io.Discard, logs) })
	end := sync.OnceValue(func() error { cancel(); return eg.Wait() })
	t.Cleanup(func() { _ = end() })
	return end
}

// service is the address of several replicas: a new connection goes to one that
// answers.
type service struct {
	addr string
	mu   sync.Mutex
	at   int
}

func newService(t *testing.T, replicas []*plane) *service {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &service{addr: ln.Addr().String()}
	var eg errgroup.Group
	eg.Go(func() error {
		for {
			in, err := ln.Accept()
			if err != nil {
				return nil
			}
			for i, p := range replicas {
				out, err := net.Dial("tcp", p.addr)
				if err != nil {
					continue
				}
				s.mu.Lock()
				s.at = i
				s.mu.Unlock()
				for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
					eg.Go(func() error {
						_, _ = io.Copy(way[0], way[1])
						way[0].Close()
						way[1].Close()
						return nil
					})
				}
				break
			}
		}
	})
	t.Cleanup(func() { ln.Close(); _ = eg.Wait() })
	return s
}

// last is the replica that the last connection went to.
func (s *service) last() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}
