package proxy

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hasp/mesh"
	"hasp/policy/judge"
	"hasp/proxy/relay"
)

// viaClient asks through the client's sidecar.
func (m *lab) viaClient(t *testing.T) (string, error) { return viaSidecar.call(t, m) }

func TestServerMustBeWhoTheRuleSays(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, m *lab)
		want   string // the answer; "" is a reset
		why    string
	}{
		{"the endpoint's identity when the rule names none", func(t *testing.T, m *lab) {
			m.client.apply(outboundConfig(m.at, m.server.spiffe, istioMutual(), mesh.TCP))
		}, "ping", ""},
		{"one of several", func(t *testing.T, m *lab) {
			m.client.apply(outboundConfig(m.at, "", istioMutual("spiffe://cluster.local/ns/shop/sa/old", m.server.spiffe), mesh.TCP))
		}, "ping", ""},
		{"somebody else", func(t *testing.T, m *lab) {
			m.client.apply(outboundConfig(m.at, m.server.spiffe, istioMutual("spiffe://cluster.local/ns/shop/sa/other"), mesh.TCP))
		}, "", "the server is spiffe://cluster.local/ns/shop/sa/boards, not spiffe://cluster.local/ns/shop/sa/other"},
		{"nobody knows", func(t *testing.T, m *lab) {
			m.client.apply(outboundConfig(m.at, "", istioMutual(), mesh.TCP))
		}, "", "nothing says which identity"},
		{"another authority", func(t *testing.T, m *lab) {
			m.server.id.cert.Store(newTestCA(t).issue(t, m.server.spiffe))
		}, "", "certificate of spiffe://cluster.local/ns/shop/sa/boards: x509: certificate signed by unknown authority"},
		{"a certificate for clients", func(t *testing.T, m *lab) {
			m.server.id.cert.Store(m.ca.issue(t, m.server.spiffe, func(c *x509.Certificate) {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			}))
		}, "", "x509: certificate specifies an incompatible key usage"},
		{"not valid yet", func(t *testing.T, m *lab) {
			m.server.id.cert.Store(m.ca.issue(t, m.server.spiffe, func(c *x509.Certificate) {
				c.NotBefore = time.Now().Add(time.Hour)
				c.NotAfter = time.Now().Add(2 * time.Hour)
			}))
		}, "", "check the clocks"},
		{"no certificate of our own", func(t *testing.T, m *lab) { m.client.id.cert.Store(nil) }, "",
			"the proxy has no certificate: the authority has not answered"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newLab(t, mesh.ModeStrict, echo)
			tc.change(t, m)
			got, err := m.viaClient(t)
			if got != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("got %q, %v", got, err)
			}
			if f := m.client.row(ended); !strings.Contains(f.Why, tc.why) {
				t.Errorf("why %q lacks %q", f.Why, tc.why)
			}
		})
	}
}

func TestAutoFollowsTheEndpoint(t *testing.T) {
	m := newLab(t, mesh.ModePermissive, echo)
	auto := mesh.ClientTLS{Auto: true}
	m.client.apply(outboundConfig(m.at, m.server.spiffe, auto, mesh.TCP))
	if got, err := m.viaClient(t); got != "ping" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if f := m.client.row(ended); f.Security != mesh.MutualTLS || f.Mode != "AUTO" {
		t.Errorf("with a sidecar: %s, mode %s", f.Security, f.Mode)
	}
	c := outboundConfig(m.app, "", auto, mesh.TCP)
	c.Outbound.Clusters[0].Endpoints[0].Sidecar = false
	m.client.apply(c)
	if got, err := m.viaClient(t); got != "ping" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if f := m.client.row(func(c mesh.Connection) bool { return ended(c) && c.ID == 2 }); f.Security != mesh.Plaintext || f.Why != "the server has no sidecar" {
		t.Errorf("without a sidecar: %s, %q", f.Security, f.Why)
	}
}

func TestOwnWorkloadIsCalledWithoutTLS(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	c := outboundConfig(m.app, m.client.spiffe, istioMutual(m.client.spiffe), mesh.TCP)
	c.Outbound.Clusters[0].Endpoints[0].Workload = "shop/app-ui"
	m.client.apply(c)
	if got, err := m.viaClient(t); got != "ping" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if f := m.client.row(ended); f.Why != "the workload calls itself" || !f.Allowed {
		t.Errorf("row %+v", f)
	}
}

func TestPassthroughAndRegistryOnly(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	outside := m.client.outboundTo(m.app)
	if got, err := call(t, "127.0.0.5", outside, "ping"); got != "ping" || err != nil {
		t.Fatalf("ALLOW_ANY: got %q, %v", got, err)
	}
	if f := m.client.row(ended); f.Cluster != "PassthroughCluster" || f.Mode != "ALLOW_ANY" || f.Security != mesh.Plaintext {
		t.Errorf("row %+v", f)
	}
	c := outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.TCP)
	c.Outbound.AllowAny = false
	m.client.apply(c)
	if got, err := call(t, "127.0.0.5", outside, "ping"); got != "" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("REGISTRY_ONLY: got %q, %v", got, err)
	}
	f := m.client.row(func(c mesh.Connection) bool { return ended(c) && c.ID == 2 })
	if want := "no service claims " + m.app.String() + " and the outbound traffic policy is REGISTRY_ONLY"; f.Why != want {
		t.Errorf("why %q", f.Why)
	}
}

func TestLoopIsRefused(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	at := m.client.outboundTo(vip)
	m.client.dst.Store(at.Port(), at) // nobody redirected it
	if _, err := call(t, "127.0.0.5", at, "ping"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	if f := m.client.row(ended); !strings.Contains(f.Why, "would loop") {
		t.Errorf("why %q", f.Why)
	}
}

// withEndpoint is the lab's configuration with another endpoint before the good
// one.
func (m *lab) withEndpoint(at netip.AddrPort, proto mesh.Protocol) mesh.ProxyConfig {
	c := outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), proto)
	cl := &c.Outbound.Clusters[0]
	cl.Endpoints = append(cl.Endpoints, cl.Endpoints[0])
	cl.Endpoints[0].Addr, cl.Endpoints[0].Port = at.Addr(), at.Port()
	return c
}

// An endpoint that refuses the connection, resets it in the handshake, speaks
// no TLS or is somebody else is left for the next: nothing has been sent.
func TestNextEndpointWhenOneIsDown(t *testing.T) {
	dead := listenOn(t, "127.0.0.1")
	refuses := addrPort(dead.Addr())
	dead.Close()
	resets := app(t, func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 5))
		relay.Reset(c)
	})
	for _, tc := range []struct {
		name string
		at   func(m *lab) netip.AddrPort
		why  string
	}{
		{"refuses", func(*lab) netip.AddrPort { return refuses }, "tried before: dial tcp 127.0.0.5:0->" + refuses.String() + ": connect: connection refused"},
		{"resets", func(*lab) netip.AddrPort { return resets }, "tried before: tls to " + resets.String() + ": read tcp "},
		{"leaves", func(*lab) netip.AddrPort { return app(t, func(c *net.TCPConn) { c.Read(make([]byte, 4096)) }) }, "tried before: tls to "},
		{"is another", func(m *lab) netip.AddrPort {
			other := newNode(t, m.ca, "other", "127.0.0.9")
			other.apply(inboundConfig(m.app.Port(), mesh.ModeStrict, mesh.TCP))
			return other.inboundFor(m.app)
		}, "tried before: tls to "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newLab(t, mesh.ModeStrict, echo)
			at := tc.at(m)
			m.client.apply(m.withEndpoint(at, mesh.TCP))
			for range 4 {
				if got, err := m.viaClient(t); got != "ping" || err != nil {
					t.Fatalf("got %q, %v", got, err)
				}
			}
			if m.client.health.healthy(at.String()) {
				t.Error("the endpoint is still believed in")
			}
			f := m.client.row(func(c mesh.Connection) bool { return ended(c) && c.Upstream == m.at && c.Why != "" })
			if !strings.HasPrefix(f.Why, tc.why) || !f.Allowed || f.Upstream != m.at {
				t.Errorf("row: %+v", f)
			}
		})
	}
}

func TestNoEndpointAnswers(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	dead := listenOn(t, "127.0.0.1")
	at := addrPort(dead.Addr())
	dead.Close()
	c := m.withEndpoint(at, mesh.TCP)
	cl := &c.Outbound.Clusters[0]
	for range maxAttempts {
		cl.Endpoints = append(cl.Endpoints, cl.Endpoints[0])
	}
	cl.Endpoints = slices.Delete(cl.Endpoints, 1, 2) // the good one
	m.client.apply(c)
	if got, err := m.viaClient(t); err == nil {
		t.Errorf("got %q", got)
	}
	if f := m.client.row(ended); f.Why != "dial tcp 127.0.0.5:0->"+at.String()+": connect: connection refused (the last of 3 endpoints)" || f.Allowed {
		t.Errorf("row: %+v", f)
	}
}

func TestRoundRobin(t *testing.T) {
	p := &Proxy{health: newEndpointHealth(time.Now)}
	endpoints := make([]mesh.Endpoint, 5)
	for i := range endpoints {
		endpoints[i] = mesh.Endpoint{Addr: netip.MustParseAddr("10.0.0.1"), Port: uint16(i)}
	}
	c := newCluster(&judge.Cluster{Cluster: mesh.Cluster{Endpoints: endpoints}})
	p.health.failed(endpointAddr(&c.Endpoints[1]))
	var first []uint16
	for range 5 {
		got := p.candidates(c, netip.AddrPort{})
		if len(got) != maxAttempts {
			t.Fatalf("%d candidates", len(got))
		}
		first = append(first, got[0].Port)
	}
	for i, want := range []uint16{0, 2, 2, 3, 4} {
		if first[i] != want {
			t.Fatalf("first in turn: %v", first)
		}
	}
}

// An endpoint with two addresses is reached by the one of the family that was
// dialled; a gateway, which nobody dialled through, prefers IPv4.
func TestFamily(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	both := []mesh.Endpoint{{Addr: v4, Port: 80}, {Addr: v6, Port: 80}}
	p := &Proxy{health: newEndpointHealth(time.Now)}
	for _, tc := range []struct {
		endpoints []mesh.Endpoint
		dialled   string
		want      netip.Addr
	}{
		{both, "10.96.0.1:80", v4},
		{both, "[fd96::1]:80", v6},
		{both, "[::ffff:10.96.0.1]:80", v4},
		{both, "", v4},
		{both[:1], "[fd96::1]:80", v4},
		{both[1:], "10.96.0.1:80", v6},
		{both[1:], "", v6},
	} {
		c := newCluster(&judge.Cluster{Cluster: mesh.Cluster{Endpoints: tc.endpoints}})
		var dst netip.AddrPort
		if tc.dialled != "" {
			dst = netip.MustParseAddrPort(tc.dialled)
		}
		for range 2 { // whosever turn it is
			if got := p.candidates(c, dst); len(got) != 1 || got[0].Addr != tc.want {
				t.Errorf("dialled %q with %d endpoints: %v, want only %s", tc.dialled, len(tc.endpoints), got, tc.want)
			}
		}
	}
}

// An application behind a sidecar gets an HTTP answer where Envoy gives one.
func TestHTTPClientGets503(t *testing.T) {
	get := func(t *testing.T, m *lab) (int, string) { // checks the id, and returns the body without it
		c := dial(t, "127.0.0.5", m.client.outboundTo(vip))
		io.WriteString(c, "GET /shareditems HTTP/1.1\r\nHost: boards:8080\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		trace := m.client.row(ended).Trace
		body, id, _ := strings.Cut(string(b), "\n")
		if trace == "" || res.Header.Get("X-Hasp-Trace") != trace || id != "hasp why "+trace {
			t.Errorf("trace %q, header %q, second line %q", trace, res.Header.Get("X-Hasp-Trace"), id)
		}
		return res.StatusCode, body
	}
	t.Run("unreachable", func(t *testing.T) {
		m := newLab(t, mesh.ModeStrict, echo)
		dead := listenOn(t, "127.0.0.1")
		at := addrPort(dead.Addr())
		dead.Close()
		m.client.apply(outboundConfig(at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.HTTP))
		code, body := get(t, m)
		if code != 503 || !strings.HasPrefix(body, "upstream connect error or disconnect/reset before headers. reset reason: connection failure, transport failure reason: ") {
			t.Errorf("got %d %q", code, body)
		}
		m.client.row(ended)
		if s := scrape(t, m.client); !strings.Contains(s, `response_code="503",response_flags="UF"`) {
			t.Errorf("metrics:\n%s", s)
		}
	})
	t.Run("plaintext to a STRICT server", func(t *testing.T) {
		m := newLab(t, mesh.ModeStrict, echo)
		m.client.apply(outboundConfig(m.at, "", mesh.ClientTLS{Mode: mesh.ClientDisable}, mesh.HTTP))
		code, body := get(t, m)
		if code != 503 || body != "upstream connect error or disconnect/reset before headers. reset reason: connection termination" {
			t.Errorf("got %d %q", code, body)
		}
		m.client.row(ended)
		if s := scrape(t, m.client); !strings.Contains(s, `response_code="503",response_flags="UC"`) {
			t.Errorf("metrics:\n%s", s)
		}
	})
	t.Run("refused before it spoke", func(t *testing.T) {
		m := newLab(t, mesh.ModeStrict, echo)
		m.client.id.cert.Store(newTestCA(t).issue(t, m.client.spiffe))
		m.client.apply(outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.HTTP))
		c := dial(t, "127.0.0.5", m.client.outboundTo(vip))
		until(t, "its proxy knows", func() bool { return m.client.row(func(mesh.Connection) bool { return true }).Failure != nil })
		for _, piece := range []string{"GET /shareditems HT", "TP/1.1\r\nHost: boards:8080\r\n\r\n"} {
			io.WriteString(c, piece)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if f := m.client.row(func(mesh.Connection) bool { return true }); res.StatusCode != 503 || res.Header.Get("X-Hasp-Trace") != f.Trace || !f.Failure.ByPeer {
			t.Errorf("%d %v: %+v", res.StatusCode, res.Header, f)
		}
		res.Body.Close()
		c.Close()
		m.client.row(ended)
		if s := scrape(t, m.client); !strings.Contains(s, `response_code="503",response_flags="UC"`) {
			t.Errorf("metrics:\n%s", s)
		}
	})
	t.Run("not HTTP after all", func(t *testing.T) {
		m := newLab(t, mesh.ModeStrict, echo)
		m.client.apply(outboundConfig(m.at, "", mesh.ClientTLS{Mode: mesh.ClientDisable}, mesh.HTTP))
		if _, err := call(t, "127.0.0.5", m.client.outboundTo(vip), "\x00\x01binary"); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want a reset", err)
		}
	})
}

func TestSimpleAndMutualFromFiles(t *testing.T) {
	ca, dir := newTestCA(t), t.TempDir()
	serverCert := ca.issue(t, "spiffe://partner/db", func(c *x509.Certificate) { c.DNSNames = []string{"db.partner.example"} })
	var wants atomic.Int64 // a tls.ClientAuthType
	db := app(t, func(c *net.TCPConn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*serverCert}, ClientAuth: tls.ClientAuthType(wants.Load()), ClientCAs: ca.pool})
		io.Copy(s, s)
		s.CloseWrite()
	})
	file := func(name string, blocks ...*pem.Block) string {
		var b []byte
		for _, x := range blocks {
			b = append(b, pem.EncodeToMemory(x)...)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	clientCert := ca.issue(t, "spiffe://partner/us")
	key, err := x509.MarshalECPrivateKey(clientCert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	root := file("ca.pem", &pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
	cert := file("cert.pem", &pem.Block{Type: "CERTIFICATE", Bytes: clientCert.Certificate[0]})
	keyFile := file("key.pem", &pem.Block{Type: "EC PRIVATE KEY", Bytes: key})

	origin := mesh.Origin{Kind: "DestinationRule", Namespace: "shop", Name: "db", Level: mesh.LevelService}
	for _, tc := range []struct {
		name     string
		tls      mesh.ClientTLS
		server   tls.ClientAuthType
		security mesh.Security
		why      string // refused when not empty
	}{
		{"SIMPLE", mesh.ClientTLS{Mode: mesh.ClientSimple, CACertificates: root, SNI: "db.partner.example"}, tls.NoClientCert, mesh.SimpleTLS, ""},
		{"SIMPLE by alternative name", mesh.ClientTLS{Mode: mesh.ClientSimple, CACertificates: root, SubjectAltNames: []string{"spiffe://partner/db"}}, tls.NoClientCert, mesh.SimpleTLS, ""},
		{"SIMPLE with a wrong name", mesh.ClientTLS{Mode: mesh.ClientSimple, CACertificates: root, SubjectAltNames: []string{"spiffe://partner/web"}}, tls.NoClientCert, "", `the server's certificate is for ["db.partner.example" "spiffe://partner/db"], none of ["spiffe://partner/web"]`},
		{"SIMPLE against the system's roots", mesh.ClientTLS{Mode: mesh.ClientSimple, SNI: "db.partner.example"}, tls.NoClientCert, "", "certificate signed by unknown authority"},
		{"SIMPLE unverified", mesh.ClientTLS{Mode: mesh.ClientSimple, InsecureSkipVerify: true}, tls.NoClientCert, mesh.SimpleTLS, ""},
		{"SIMPLE without its file", mesh.ClientTLS{Mode: mesh.ClientSimple, CACertificates: dir + "/none.pem", Origin: origin}, tls.NoClientCert, "", "caCertificates of SIMPLE of DestinationRule shop/db (service): stat " + dir + "/none.pem: no such file or directory"},
		{"MUTUAL", mesh.ClientTLS{Mode: mesh.ClientMutual, CACertificates: root, ClientCertificate: cert, PrivateKey: keyFile, SNI: "db.partner.example"}, tls.RequireAndVerifyClientCert, mesh.MutualTLS, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wants.Store(int64(tc.server))
			client := newNode(t, ca, "app-ui", "127.0.0.5")
			client.apply(outboundConfig(db, "", tc.tls, mesh.TCP))
			got, err := call(t, "127.0.0.5", client.outboundTo(vip), "ping")
			if (got == "ping" && err == nil) != (tc.why == "") {
				t.Errorf("got %q, %v", got, err)
			}
			f := client.row(ended)
			if tc.why != "" && !strings.HasSuffix(f.Why, tc.why) || tc.why == "" && f.Security != tc.security {
				t.Errorf("row: %s, why %q", f.Security, f.Why)
			}
		})
	}
}
