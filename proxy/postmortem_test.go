package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"hasp/mesh"
)

// brief is what a Failure comes down to.
func brief(f *mesh.Failure) string {
	if f == nil {
		return ""
	}
	s := f.Stage + " " + f.Reason
	if f.ByPeer {
		s += " by peer"
	}
	return s
}

// gaveUp is what an end says whose peer gave up after a handshake, with an
// alert or only a reset, whichever comes first.
const gaveUp = "handshake alert by peer|answer reset by peer"

// A connection that did not come about leaves a record at each end that saw it.
func TestPostMortemOfBothEnds(t *testing.T) {
	elsewhere := "spiffe://elsewhere/ns/shop/sa/boards"
	disable := mesh.ClientTLS{Mode: mesh.ClientDisable}
	issued := func(n func(*lab) *node, change func(*x509.Certificate)) func(*testing.T, *lab) {
		return func(t *testing.T, m *lab) { n(m).id.cert.Store(m.ca.issue(t, n(m).spiffe, change)) }
	}
	server, client := func(m *lab) *node { return m.server }, func(m *lab) *node { return m.client }
	to := func(tls mesh.ClientTLS) func(*testing.T, *lab) {
		return func(t *testing.T, m *lab) { m.client.apply(outboundConfig(m.at, m.server.spiffe, tls, mesh.TCP)) }
	}
	for _, tc := range []struct {
		name           string
		change         func(t *testing.T, m *lab)
		client, server string
		// presented is whose certificate the end that refused has, its own is the
		// other's.
		presented func(*lab) *node
	}{
		{"all is well", func(*testing.T, *lab) {}, "", "", nil},
		{"the server's authority is unknown", func(t *testing.T, m *lab) {
			m.server.id.cert.Store(newTestCA(t).issue(t, m.server.spiffe))
		}, "handshake unknown_authority", "handshake alert by peer", server},
		{"the client's authority is unknown", func(t *testing.T, m *lab) {
			m.client.id.cert.Store(newTestCA(t).issue(t, m.client.spiffe))
		}, gaveUp, "handshake unknown_authority", client},
		{"the server's certificate is over", issued(server, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }),
			"handshake expired", "handshake alert by peer", server},
		{"the client's certificate is over", issued(client, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }),
			gaveUp, "handshake expired", client},
		{"the server's certificate is of the future", issued(server, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }),
			"handshake not_yet_valid", "handshake alert by peer", server},
		{"the client's certificate is of the future", issued(client, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }),
			gaveUp, "handshake not_yet_valid", client},
		{"the client's certificate is for servers", issued(client, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
			gaveUp, "handshake invalid_certificate", client},
		{"the server is somebody else", to(istioMutual("spiffe://cluster.local/ns/shop/sa/other")), "handshake wrong_identity", "handshake alert by peer", server},
		{"the server is of another trust domain", func(t *testing.T, m *lab) {
			m.server.id.cert.Store(m.ca.issue(t, elsewhere))
		}, "handshake other_trust_domain", "handshake alert by peer", nil},
		{"the client is of another trust domain", func(t *testing.T, m *lab) {
			m.client.id.cert.Store(m.ca.issue(t, elsewhere))
		}, "answer reset by peer", "policy other_trust_domain", nil},
		{"the client may not", func(t *testing.T, m *lab) {
			in := inboundConfig(m.app.Port(), mesh.ModeStrict, mesh.TCP)
			in.Inbound.Authorization.Allow = []mesh.AuthorizationRules{{Origin: mesh.Origin{Kind: "AuthorizationPolicy", Namespace: "shop", Name: "nobody"}}}
			m.server.apply(in)
		}, "answer reset by peer", "policy denied", client},
		{"plaintext to STRICT", to(disable), "answer reset by peer", "policy plaintext", nil},
		{"the client has no certificate yet", func(_ *testing.T, m *lab) { m.client.id.cert.Store(nil) },
			"handshake no_own_certificate", "handshake reset by peer", nil},
		{"the client has no roots yet", func(_ *testing.T, m *lab) { m.client.id.roots.Store(nil) },
			"handshake no_own_certificate", "handshake alert by peer", server},
		{"the server has no certificate yet", func(_ *testing.T, m *lab) { m.server.id.cert.Store(nil) },
			"handshake alert by peer", "handshake no_own_certificate", nil},
		{"the workload is away", func(t *testing.T, m *lab) {
			dead := listenOn(t, "127.0.0.1")
			m.app = addrPort(dead.Addr())
			dead.Close()
			m.at = m.server.inboundFor(m.app)
			in := inboundConfig(m.app.Port(), mesh.ModeStrict, mesh.TCP)
			in.Peers = []mesh.Peer{{Addr: m.client.addr, Workload: "shop/app-ui", Sidecar: true}}
			m.server.apply(in)
			to(istioMutual())(t, m)
		}, "handshake reset by peer", "dial refused", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newLab(t, mesh.ModeStrict, echo)
			tc.change(t, m)
			_, _ = m.viaClient(t)
			c, s := m.oneHop(t)
			if c.Failure != nil && (c.Mode == "" || c.Generation == 0) {
				t.Errorf("client: it does not say by what rule it went: mode %q, generation %d", c.Mode, c.Generation)
			}
			if got := brief(c.Failure); got != tc.client && (got == "" || !strings.Contains(tc.client, got)) {
				t.Errorf("client: %s, want %s: %+v", got, tc.client, c)
			}
			if got := brief(s.Failure); got != tc.server {
				t.Errorf("server: %s, want %s: %+v", got, tc.server, s)
			}
			if tc.presented == nil {
				return
			}
			who := tc.presented(m)
			f, self, other := c.Failure, m.client, m.server
			if who == m.client {
				f, self, other = s.Failure, m.server, m.client
			}
			if f.Presented == nil || f.Presented.Identity != other.spiffe || !strings.HasPrefix(f.Presented.Issuer, "CN=") || f.Presented.NotAfter.IsZero() ||
				f.Own == nil || f.Own.Identity != self.spiffe || f.TrustDomain != "cluster.local" || f.At.IsZero() || f.Error == "" {
				t.Errorf("%+v", f)
			}
			if c.Trace != s.Trace {
				t.Errorf("traces %s and %s", c.Trace, s.Trace)
			}
		})
	}
}

// All that a Failure can say, at the end that refuses and at the other.
func TestPostMortemTellsWhatWasShown(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	now := time.Date(2026, 11, 29, 20, 0, 0, 0, time.UTC)
	m.client.cfg.Now = func() time.Time { return now } // too early for the server's
	_, _ = m.viaClient(t)
	c, s := m.oneHop(t)
	facts := func(n *node) *mesh.Certificate {
		x := n.id.cert.Load().Leaf
		return &mesh.Certificate{Identity: n.spiffe, Issuer: "CN=root", Serial: x.SerialNumber.Text(16), NotBefore: x.NotBefore, NotAfter: x.NotAfter}
	}
	sni := "outbound_.8080_._." + boardsHost
	want := &mesh.Failure{
		Stage: "handshake", Reason: c.Failure.Reason, Error: c.Failure.Error, At: c.Failure.At,
		Expected: []string{m.server.spiffe}, Presented: facts(m.server), Own: facts(m.client),
		TrustDomain: "cluster.local", SNI: sni, Offered: meshProtos(!*portable),
	}
	if !reflect.DeepEqual(c.Failure, want) {
		t.Errorf("client: got  %+v\nwant %+v", c.Failure, want)
	}
	want = &mesh.Failure{
		Stage: "handshake", Reason: "alert", Error: "remote error: tls: bad certificate", ByPeer: true, At: s.Failure.At,
		Own: facts(m.server), TrustDomain: "cluster.local", SNI: sni, Offered: meshProtos(!*portable),
	}
	if !reflect.DeepEqual(s.Failure, want) {
		t.Errorf("server: got  %+v\nwant %+v", s.Failure, want)
	}

	until(t, "it is out of the table of the living", func() bool { return m.client.table.size() == 0 })
	w := httptest.NewRecorder()
	m.client.AdminHandler().ServeHTTP(w, httptest.NewRequest("GET", "/connections", nil))
	var page []mesh.Connection
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || len(page) != 1 || page[0].Trace != c.Trace || page[0].Failure == nil || page[0].Failure.Presented == nil {
		t.Errorf("admin page: %v %s", err, w.Body)
	}
}

// Callers without a proxy of their own.
func TestPostMortemOfStrangers(t *testing.T) {
	for _, tc := range []struct {
		name string
		call func(t *testing.T, m *lab)
		want string
	}{
		{"plaintext", func(t *testing.T, m *lab) { _, _ = plaintext.call(t, m) }, "policy plaintext"},
		{"no certificate", func(t *testing.T, m *lab) { _, _ = noCert.call(t, m) }, "handshake no_client_certificate"},
		{"two names", func(t *testing.T, m *lab) { _, _ = twoNames.call(t, m) }, "handshake invalid_certificate"},
		{"not TLS after all", func(t *testing.T, m *lab) { _, _ = call(t, "127.0.0.7", m.at, "\x16 is all I say") }, "handshake plaintext"},
		{"left without a word", func(t *testing.T, m *lab) { _, _ = call(t, "127.0.0.7", m.at, "") }, ""},
		{"silence", func(t *testing.T, m *lab) { _, _ = io.ReadAll(dial(t, "127.0.0.7", m.at)) }, "handshake timeout"},
		{"refuses the server", func(t *testing.T, m *lab) {
			c := tls.Client(dial(t, "127.0.0.7", m.at), &tls.Config{ServerName: "boards", RootCAs: x509.NewCertPool()})
			_ = c.Handshake()
		}, "handshake alert by peer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newLab(t, mesh.ModeStrict, echo, func(c *Config) {
				if tc.want == "handshake timeout" {
					c.HandshakeTimeout = 100 * time.Millisecond
				}
			})
			tc.call(t, m)
			if f := m.server.row(ended); brief(f.Failure) != tc.want {
				t.Errorf("%s, want %s: %+v", brief(f.Failure), tc.want, f)
			}
		})
	}
}

// blocking never reaches anybody.
type blocking struct{}

func (blocking) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// What the client's proxy says when no other has anything to say.
func TestPostMortemWithoutAServer(t *testing.T) {
	says := func(what string) func(*net.TCPConn) {
		return func(c *net.TCPConn) { _, _ = io.WriteString(c, what); echo(c) }
	}
	atApp := func(m *lab) {
		m.client.apply(outboundConfig(m.app, m.server.spiffe, istioMutual(m.server.spiffe), mesh.TCP))
	}
	for _, tc := range []struct {
		name   string
		app    func(*net.TCPConn)
		change func(t *testing.T, m *lab)
		dst    netip.AddrPort
		want   string
	}{
		{"refused", echo, func(t *testing.T, m *lab) {
			dead := listenOn(t, "127.0.0.1")
			m.app = addrPort(dead.Addr())
			dead.Close()
			atApp(m)
		}, vip, "dial refused"},
		{"no endpoint", echo, func(_ *testing.T, m *lab) {
			c := outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.TCP)
			c.Outbound.Clusters[0].Endpoints = nil
			m.client.apply(c)
		}, vip, "dial no_endpoint"},
		{"nobody answers", echo, func(_ *testing.T, m *lab) {
			m.client.cfg.Dialer, m.client.cfg.ConnectTimeout = blocking{}, time.Millisecond
		}, vip, "dial timeout"},
		{"plaintext for TLS", says("220 mail.example ready, and waits for you\r\n"), func(_ *testing.T, m *lab) { atApp(m) }, vip, "handshake plaintext"},
		{"silence for TLS", func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }, func(_ *testing.T, m *lab) {
			m.client.cfg.HandshakeTimeout = 100 * time.Millisecond
			atApp(m)
		}, vip, "handshake timeout"},
		{"an end for TLS", func(*net.TCPConn) {}, func(_ *testing.T, m *lab) { atApp(m) }, vip, "handshake closed by peer|handshake reset by peer"},
		{"nothing says who", echo, func(_ *testing.T, m *lab) {
			m.client.apply(outboundConfig(m.at, "", istioMutual(), mesh.TCP))
		}, vip, "handshake other"},
		{"no service", echo, func(_ *testing.T, m *lab) {
			c := outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.TCP)
			c.Outbound.AllowAny = false
			m.client.apply(c)
		}, netip.MustParseAddrPort("192.0.2.1:80"), "policy no_service"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newLab(t, mesh.ModeStrict, tc.app)
			tc.change(t, m)
			_, _ = call(t, "127.0.0.5", m.client.outboundTo(tc.dst), "ping")
			f := m.client.row(ended)
			if got := brief(f.Failure); got == "" || !strings.Contains(tc.want, got) {
				t.Errorf("%s, want %s: %+v", got, tc.want, f)
			}
			if f.Trace == "" || f.Allowed || f.Generation != 1 || f.Mode == "" {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestPostMortemWithoutAConfiguration(t *testing.T) {
	n := newNode(t, newTestCA(t), "boards", "127.0.0.9")
	_, _ = call(t, "127.0.0.5", n.inboundFor(app(t, echo)), "ping")
	if f := n.row(ended); brief(f.Failure) != "dial no_configuration" || f.Trace == "" {
		t.Errorf("%+v", f)
	}
}

// What comes about in the end has no failure, whatever was tried before; nor
// has what lived until a policy ended it.
func TestNoPostMortemOfTheLiving(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	dead := listenOn(t, "127.0.0.1")
	c := outboundConfig(addrPort(dead.Addr()), m.server.spiffe, istioMutual(m.server.spiffe), mesh.TCP)
	dead.Close()
	second := c.Outbound.Clusters[0].Endpoints[0]
	second.Addr, second.Port = m.at.Addr(), m.at.Port()
	c.Outbound.Clusters[0].Endpoints = append(c.Outbound.Clusters[0].Endpoints, second)
	m.client.apply(c)
	talk(t, "127.0.0.5", m.client.outboundTo(vip))
	in := inboundConfig(m.app.Port(), mesh.ModeStrict, mesh.TCP)
	in.Inbound.Authorization.Allow = []mesh.AuthorizationRules{{Origin: mesh.Origin{Kind: "AuthorizationPolicy", Namespace: "shop", Name: "nobody"}}}
	m.server.apply(in) // cuts it
	for _, f := range []mesh.Connection{m.client.row(ended), m.server.row(ended)} {
		if f.Failure != nil || f.Upstream.Port() == 0 {
			t.Errorf("%s: %s: %+v", f.Direction, f.Why, f.Failure)
		}
	}
}

// A stranger's certificate does not fill the table.
func TestPostMortemIsBounded(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	cert := newTestCA(t).issue(t, m.client.spiffe, func(c *x509.Certificate) {
		for i := range 500 {
			c.DNSNames = append(c.DNSNames, fmt.Sprintf("name-%d.example", i))
		}
	})
	var alpn []string
	for i := range 200 {
		alpn = append(alpn, fmt.Sprintf("%d-%s", i, strings.Repeat("x", 200)))
	}
	_, _ = m.askTLS(t, cert, alpn...)
	f := m.server.row(ended)
	b, err := json.Marshal(f)
	if err != nil || brief(f.Failure) != "handshake unknown_authority" || len(b) > 10_000 || len(f.Failure.Offered) != 16 {
		t.Errorf("%v, %d bytes: %.2000s", err, len(b), b)
	}
}
