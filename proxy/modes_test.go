package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"hasp/mesh"
)

// caller is a kind of client that meets an inbound port.
type caller struct {
	name string
	call func(t *testing.T, m *lab) (string, error)
}

// lab is one server with its sidecar, and a client with its.
type lab struct {
	ca             *testCA
	server, client *node
	at             netip.AddrPort // where the server's captured connections arrive
	app            netip.AddrPort
}

func newLab(t *testing.T, mode mesh.Mode, serve func(*net.TCPConn), server ...func(*Config)) *lab {
	m := &lab{ca: newTestCA(t)}
	m.server = newNode(t, m.ca, "boards", "127.0.0.9", server...)
	m.client = newNode(t, m.ca, "app-ui", "127.0.0.5")
	m.app = app(t, serve)
	m.at = m.server.inboundFor(m.app)
	m.server.apply(inboundConfig(m.app.Port(), mode, mesh.TCP))
	m.client.apply(outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.TCP))
	return m
}

func (m *lab) tls(t *testing.T, cert *tls.Certificate, alpn ...string) (*tls.Conn, error) {
	raw := dial(t, "127.0.0.7", m.at)
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: alpn}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	c := tls.Client(raw, cfg)
	return c, c.Handshake()
}

func (m *lab) askTLS(t *testing.T, cert *tls.Certificate, alpn ...string) (string, error) {
	c, err := m.tls(t, cert, alpn...)
	defer c.NetConn().Close()
	if err != nil {
		return "", err
	}
	return ask(c, "ping")
}

var (
	viaSidecar = caller{"sidecar", func(t *testing.T, m *lab) (string, error) {
		return call(t, "127.0.0.5", m.client.outboundTo(vip), "ping")
	}}
	plaintext = caller{"plaintext", func(t *testing.T, m *lab) (string, error) {
		return call(t, "127.0.0.7", m.at, "ping")
	}}
	noCert = caller{"tls without certificate", func(t *testing.T, m *lab) (string, error) {
		return m.askTLS(t, nil, alpnIstio)
	}}
	wrongCA = caller{"tls with a stranger's certificate", func(t *testing.T, m *lab) (string, error) {
		return m.askTLS(t, newTestCA(t).issue(t, m.client.spiffe), alpnIstio)
	}}
	meshCert = caller{"tls with a mesh certificate and h2", func(t *testing.T, m *lab) (string, error) {
		return m.askTLS(t, m.ca.issue(t, m.client.spiffe), "h2", "http/1.1")
	}}
	foreign = caller{"tls with a certificate of another trust domain", func(t *testing.T, m *lab) (string, error) {
		return m.askTLS(t, m.ca.issue(t, "spiffe://elsewhere/ns/shop/sa/app-ui"), alpnIstio)
	}}
	twoNames = caller{"tls with two URI names", func(t *testing.T, m *lab) (string, error) {
		return m.askTLS(t, m.ca.issue(t, m.client.spiffe, func(c *x509.Certificate) {
			c.URIs = append(c.URIs, &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/shop/sa/admin"})
		}), alpnIstio)
	}}
	serverOnly = caller{"tls with a certificate for servers", func(t *testing.T, m *lab) (string, error) {
		return m.askTLS(t, m.ca.issue(t, m.client.spiffe, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), alpnIstio)
	}}
	expired = caller{"tls with an expired certificate", func(t *testing.T, m *lab) (string, error) {
		return m.askTLS(t, m.ca.issue(t, m.client.spiffe, func(c *x509.Certificate) {
			c.NotAfter = time.Now().Add(-time.Second)
		}), alpnIstio)
	}}
)

// Which callers each mode lets in, and what the table says of them.
func TestModesAndCallers(t *testing.T) {
	const refused = ""
	for _, tc := range []struct {
		mode     mesh.Mode
		caller   caller
		want     string
		security mesh.Security
		why      string
	}{
		{mesh.ModeStrict, viaSidecar, "ping", mesh.MutualTLS, ""},
		{mesh.ModeStrict, meshCert, "ping", mesh.MutualTLS, ""},
		{mesh.ModeStrict, plaintext, refused, mesh.Plaintext, "STRICT of Policy shop/default (namespace) requires mutual TLS and the client spoke plaintext"},
		{mesh.ModeStrict, noCert, refused, mesh.Unknown, "tls handshake: tls: client didn't provide a certificate"},
		{mesh.ModeStrict, wrongCA, refused, mesh.Unknown, "tls handshake: certificate of spiffe://cluster.local/ns/shop/sa/app-ui: x509: certificate signed by unknown authority"},
		{mesh.ModeStrict, foreign, refused, mesh.MutualTLS, "spiffe://elsewhere/ns/shop/sa/app-ui is not of trust domain cluster.local"},
		{mesh.ModeStrict, twoNames, refused, mesh.Unknown, "tls handshake: the peer's certificate has 2 URI names, an X.509-SVID has one"},
		{mesh.ModeStrict, serverOnly, refused, mesh.Unknown, "tls handshake: certificate of spiffe://cluster.local/ns/shop/sa/app-ui: x509: certificate specifies an incompatible key usage"},
		{mesh.ModeStrict, expired, refused, mesh.Unknown, "tls handshake: certificate of spiffe://cluster.local/ns/shop/sa/app-ui: x509: certificate has expired or is not yet valid"},
		{"SOMETHING_NEW", plaintext, refused, mesh.Plaintext, "SOMETHING_NEW of Policy shop/default (namespace) requires mutual TLS and the client spoke plaintext"},
		{"SOMETHING_NEW", viaSidecar, "ping", mesh.MutualTLS, ""},
		{mesh.ModePermissive, viaSidecar, "ping", mesh.MutualTLS, ""},
		{mesh.ModePermissive, plaintext, "ping", mesh.Plaintext, "the client is not of the mesh"},
		{mesh.ModePermissive, wrongCA, refused, mesh.Unknown, "tls handshake: certificate of spiffe://cluster.local/ns/shop/sa/app-ui: x509: certificate signed by unknown authority"},
		{mesh.ModeUnset, viaSidecar, "ping", mesh.MutualTLS, ""},
		{mesh.ModeUnset, plaintext, "ping", mesh.Plaintext, "the client is not of the mesh"},
		{mesh.ModeDisable, plaintext, "ping", mesh.Plaintext, "DISABLE of Policy shop/default (namespace)"},
	} {
		t.Run(string(tc.mode)+" "+tc.caller.name, func(t *testing.T) {
			m := newLab(t, tc.mode, echo)
			got, err := tc.caller.call(t, m)
			if got != tc.want || (tc.want != refused) != (err == nil) {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
			f := m.server.row(ended)
			if f.Security != tc.security || !strings.HasPrefix(f.Why, tc.why) || f.Allowed != (tc.want != refused) {
				t.Errorf("row: security %q, allowed %v, why %q\nwant      %q, allowed %v, why %q", f.Security, f.Allowed, f.Why, tc.security, tc.want != refused, tc.why)
			}
		})
	}
}

func TestStrictResetsPlaintextWithoutAByte(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	c := dial(t, "127.0.0.7", m.at)
	io.WriteString(c, "GET /shareditems HTTP/1.1\r\nHost: boards:8080\r\n\r\n")
	n, err := c.Read(make([]byte, 1))
	if n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d bytes, %v; want a reset and none", n, err)
	}
}

func TestStrictFactsOfBothEnds(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	if got, err := viaSidecar.call(t, m); got != "ping" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	in, out := m.server.row(ended), m.client.row(ended)
	for _, f := range []mesh.Connection{in, out} {
		if f.TLS != "1.3" || f.Group != "X25519MLKEM768" || f.ALPN != meshProtos(!*portable)[0] || f.Resumed || !f.Allowed || f.Generation != 1 || f.Sent != 4 || f.Received != 4 {
			t.Errorf("%s: %+v", f.Direction, f)
		}
	}
	if in.PeerIdentity != m.client.spiffe || out.PeerIdentity != m.server.spiffe {
		t.Errorf("peers: inbound %q outbound %q", in.PeerIdentity, out.PeerIdentity)
	}
	if in.Mode != "STRICT" || in.Rule.Name != "default" || out.Mode != "ISTIO_MUTUAL" || out.Rule.Name != "mtls" {
		t.Errorf("inbound %s by %s, outbound %s by %s", in.Mode, in.Rule, out.Mode, out.Rule)
	}
	if out.Cluster != "outbound|8080||"+boardsHost || out.Upstream != m.at || out.PeerWorkload != "shop/boards" {
		t.Errorf("outbound: %+v", out)
	}
}

func TestPermissivePassesTheApplicationsOwnTLS(t *testing.T) {
	ca := newTestCA(t)
	cert := ca.issue(t, "spiffe://elsewhere/app")
	m := newLab(t, mesh.ModePermissive, func(c *net.TCPConn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*cert}})
		io.Copy(s, s)
		s.CloseWrite()
	})
	got, err := m.askTLS(t, nil, "http/1.1")
	if got != "ping" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	f := m.server.row(func(c mesh.Connection) bool { return c.Sent > 0 })
	if f.Security != mesh.PassedTLS || f.Why != "the client's TLS is not the mesh's: it is passed to the workload" {
		t.Errorf("security %q, why %q", f.Security, f.Why)
	}
}

func TestDisablePassesMeshTLSToo(t *testing.T) {
	m := newLab(t, mesh.ModeDisable, echo)
	c := dial(t, "127.0.0.7", m.at)
	const bytes = "\x16\x03\x01 whatever it is"
	if got, err := ask(c, bytes); got != bytes || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if f := m.server.row(ended); f.Security != mesh.PassedTLS {
		t.Errorf("security %q", f.Security)
	}
}

// The server speaks first; the client is a stranger, a known neighbour without
// a sidecar, a sidecar, and a sidecar the directory does not know and whose
// ClientHello is late.
func TestPermissiveServerSpeaksFirst(t *testing.T) {
	const greeting = "220 hello\n"
	hear := func(t *testing.T, c net.Conn) time.Duration {
		start := time.Now()
		b := make([]byte, len(greeting))
		if _, err := io.ReadFull(c, b); err != nil || string(b) != greeting {
			t.Fatalf("got %q, %v", b, err)
		}
		return time.Since(start)
	}
	t.Run("plaintext", func(t *testing.T) {
		m := newLab(t, mesh.ModePermissive, greeter)
		// A proxy that waits for more than the hold does so each time; a busy
		// machine does not.
		took := patience
		for range 5 {
			took = min(took, hear(t, dial(t, "127.0.0.7", m.at)))
		}
		if took > time.Second {
			t.Errorf("the greeting took %v", took)
		}
	})
	t.Run("sidecar", func(t *testing.T) {
		m := newLab(t, mesh.ModePermissive, greeter)
		c := inboundConfig(m.app.Port(), mesh.ModePermissive, mesh.MySQL)
		c.Peers = []mesh.Peer{{Addr: m.client.addr, Workload: "shop/app-ui", Identity: m.client.spiffe, Sidecar: true}}
		m.server.apply(c)
		hear(t, dial(t, "127.0.0.5", m.client.outboundTo(vip)))
		if f := m.server.row(func(c mesh.Connection) bool { return c.Security != mesh.Unknown }); f.Security != mesh.MutualTLS || f.PeerWorkload != "shop/app-ui" {
			t.Errorf("row %+v", f)
		}
	})
	t.Run("late ClientHello of a known sidecar", func(t *testing.T) {
		m := newLab(t, mesh.ModePermissive, greeter)
		c := inboundConfig(m.app.Port(), mesh.ModePermissive, mesh.MySQL)
		c.Peers = []mesh.Peer{{Addr: netip.MustParseAddr("127.0.0.7"), Workload: "shop/slow", Sidecar: true}}
		m.server.apply(c)
		cert := m.ca.issue(t, m.client.spiffe)
		raw := dial(t, "127.0.0.7", m.at)
		time.Sleep(100 * time.Millisecond) // the delay is what is tested
		hear(t, tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"istio"}, Certificates: []tls.Certificate{*cert}}))
	})
	t.Run("unknown sidecar within the hold", func(t *testing.T) {
		m := newLab(t, mesh.ModePermissive, greeter, func(c *Config) { c.Hold = patience })
		raw := dial(t, "127.0.0.7", m.at)
		time.Sleep(20 * time.Millisecond) // the greeting is there by now
		cert := m.ca.issue(t, m.client.spiffe)
		hear(t, tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"istio"}, Certificates: []tls.Certificate{*cert}}))
	})
	t.Run("known sidecar that speaks plaintext", func(t *testing.T) {
		m := newLab(t, mesh.ModePermissive, echo)
		c := inboundConfig(m.app.Port(), mesh.ModePermissive, mesh.TCP)
		c.Peers = []mesh.Peer{{Addr: netip.MustParseAddr("127.0.0.7"), Workload: "shop/odd", Sidecar: true}}
		m.server.apply(c)
		if got, err := plaintext.call(t, m); got != "ping" || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
		if f := m.server.row(ended); f.Why != "client shop/odd has a sidecar and spoke plaintext" {
			t.Errorf("why %q", f.Why)
		}
	})
}

func TestClientHelloInManySegments(t *testing.T) {
	m := newLab(t, mesh.ModePermissive, echo)
	raw := dial(t, "127.0.0.7", m.at)
	raw.SetNoDelay(true)
	cert := m.ca.issue(t, m.client.spiffe)
	c := tls.Client(&dripping{raw}, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"istio"}, Certificates: []tls.Certificate{*cert}})
	if got, err := ask(c, "ping"); got != "ping" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if f := m.server.row(ended); f.Security != mesh.MutualTLS {
		t.Errorf("security %q", f.Security)
	}
}

// dripping writes a few bytes at a time.
type dripping struct{ net.Conn }

func (d *dripping) Write(p []byte) (int, error) {
	for i := 0; i < len(p); i += 100 {
		if _, err := d.Conn.Write(p[i:min(i+100, len(p))]); err != nil {
			return i, err
		}
		time.Sleep(100 * time.Microsecond) // so that they are segments
	}
	return len(p), nil
}

func TestNoConfigurationMeansReset(t *testing.T) {
	n := newNode(t, newTestCA(t), "boards", "127.0.0.9")
	c, err := net.Dial("tcp", n.inboundFor(app(t, echo)).String())
	if err == nil { // else the reset was quicker than connect
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
	if f := n.row(ended); f.Why != "the proxy has no configuration yet" {
		t.Errorf("why %q", f.Why)
	}
}
