package proxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"hasp/mesh"
)

// oneHop is the two rows of one connection, which in these tests is the only
// one of each proxy. In the lab nobody redirects, so what the client's proxy
// dialled and what the server's has as destination are two addresses; in a mesh
// they are one.
func (m *lab) oneHop(t *testing.T) (client, server mesh.Connection) {
	t.Helper()
	client, server = m.client.row(ended), m.server.row(ended)
	if client.Local != server.Source || client.Upstream != m.at || server.Destination != m.app {
		t.Errorf("the client's proxy spoke from %s to %s, the server's heard %s for %s", client.Local, client.Upstream, server.Source, server.Destination)
	}
	return client, server
}

// Both ends name a connection alike, whatever becomes of it.
func TestBothEndsHaveOneTrace(t *testing.T) {
	appTLS := func(t *testing.T, m *lab) { // an application's own TLS, through both sidecars
		c := tls.Client(dial(t, "127.0.0.5", m.client.outboundTo(vip)), &tls.Config{InsecureSkipVerify: true})
		if err := c.Handshake(); err == nil {
			_, _ = ask(c, "ping")
		}
		c.NetConn().Close()
	}
	ping := func(t *testing.T, m *lab) { _, _ = m.viaClient(t) }
	disable := mesh.ClientTLS{Mode: mesh.ClientDisable}
	for _, tc := range []struct {
		name   string
		mode   mesh.Mode
		change func(t *testing.T, m *lab)
		call   func(t *testing.T, m *lab)
		hello  bool // the trace is of the ClientHello, else of the addresses
	}{
		{"mutual TLS", mesh.ModeStrict, nil, ping, true},
		{"mutual TLS to PERMISSIVE", mesh.ModePermissive, nil, ping, true},
		{"mutual TLS to DISABLE", mesh.ModeDisable, nil, ping, true},
		{"plaintext", mesh.ModePermissive, func(t *testing.T, m *lab) {
			m.client.apply(outboundConfig(m.at, "", disable, mesh.TCP))
		}, ping, false},
		{"plaintext refused", mesh.ModeStrict, func(t *testing.T, m *lab) {
			m.client.apply(outboundConfig(m.at, "", disable, mesh.TCP))
		}, ping, false},
		{"the client refuses the server", mesh.ModeStrict, func(t *testing.T, m *lab) {
			m.client.apply(outboundConfig(m.at, "", istioMutual("spiffe://cluster.local/ns/shop/sa/other"), mesh.TCP))
		}, ping, true},
		{"the server refuses the client", mesh.ModeStrict, func(t *testing.T, m *lab) {
			m.client.id.cert.Store(newTestCA(t).issue(t, m.client.spiffe))
		}, ping, true},
		{"the workload is away", mesh.ModeStrict, func(t *testing.T, m *lab) {
			dead := listenOn(t, "127.0.0.1")
			m.app = addrPort(dead.Addr())
			dead.Close()
			m.at = m.server.inboundFor(m.app)
			in := inboundConfig(m.app.Port(), mesh.ModeStrict, mesh.TCP)
			in.Peers = []mesh.Peer{{Addr: m.client.addr, Workload: "shop/app-ui", Sidecar: true}}
			m.server.apply(in)
			m.client.apply(outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.TCP))
		}, ping, true},
		{"the application's TLS", mesh.ModePermissive, func(t *testing.T, m *lab) {
			m.client.apply(outboundConfig(m.at, "", disable, mesh.TCP))
		}, appTLS, true},
		{"the application's TLS refused", mesh.ModeStrict, func(t *testing.T, m *lab) {
			m.client.apply(outboundConfig(m.at, "", disable, mesh.TCP))
		}, appTLS, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newLab(t, tc.mode, echo)
			if tc.change != nil {
				tc.change(t, m)
			}
			tc.call(t, m)
			c, s := m.oneHop(t)
			wantClient, wantServer := mesh.TraceOf(nil, c.Local, c.Upstream), mesh.TraceOf(nil, s.Source, s.Destination)
			switch {
			case tc.hello && (c.Trace != s.Trace || c.Trace == wantClient || len(c.Trace) != 16):
				t.Errorf("client %q (%s), server %q (%s): want one, of the ClientHello", c.Trace, c.Why, s.Trace, s.Why)
			case !tc.hello && (c.Trace != wantClient || s.Trace != wantServer):
				t.Errorf("client %q, server %q: want %s and %s, of the addresses", c.Trace, s.Trace, wantClient, wantServer)
			}
		})
	}
}

// over6 is a lab whose two ends talk over IPv6.
func over6(t *testing.T, mode mesh.Mode, tls mesh.ClientTLS) *lab {
	m := &lab{ca: newTestCA(t)}
	m.server = newNode(t, m.ca, "boards", "::1")
	m.client = newNode(t, m.ca, "app-ui", "127.0.0.5", func(c *Config) {
		c.Dialer = &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv6loopback}}
	})
	app := listenOn(t, "::1")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := app.Accept()
			if err != nil {
				return
			}
			echo(c.(*net.TCPConn))
			c.Close()
		}
	}()
	t.Cleanup(func() { app.Close(); <-done })
	m.app = addrPort(app.Addr())
	m.at = m.server.inboundFor(m.app)
	m.server.apply(inboundConfig(m.app.Port(), mode, mesh.TCP))
	m.client.apply(outboundConfig(m.at, m.server.spiffe, tls, mesh.TCP))
	return m
}

func TestOneTraceOverIPv6(t *testing.T) {
	m := over6(t, mesh.ModeStrict, istioMutual())
	if got, err := m.viaClient(t); got != "ping" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if c, s := m.oneHop(t); c.Trace != s.Trace || c.Trace == "" {
		t.Errorf("client %q, server %q", c.Trace, s.Trace)
	}
	m = over6(t, mesh.ModeStrict, mesh.ClientTLS{Mode: mesh.ClientDisable})
	_, _ = m.viaClient(t) // refused
	if c, s := m.oneHop(t); c.Trace != mesh.TraceOf(nil, c.Local, c.Upstream) || s.Trace != mesh.TraceOf(nil, s.Source, s.Destination) {
		t.Errorf("client %q, server %q: not of the addresses", c.Trace, s.Trace)
	}
}

// A connection that reached nobody has a trace all the same, and no two the
// same one.
func TestTraceOfAConnectionToNobody(t *testing.T) {
	seen := make(map[string]bool)
	m := newLab(t, mesh.ModeStrict, echo)
	c := outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.TCP)
	c.Outbound.Clusters[0].Endpoints = nil
	m.client.apply(c)
	_, _ = m.viaClient(t)
	seen[m.client.row(ended).Trace] = true

	gw := newGatewayLab(t, mirror)
	gw.config.Outbound.Clusters[0].Endpoints = nil
	gw.gw.apply(gw.config)
	gw.get(t, "/")
	first := gw.gw.row(ended)
	gw.get(t, "/")
	seen[first.Trace] = true
	seen[gw.gw.row(func(c mesh.Connection) bool { return ended(c) && c.ID != first.ID }).Trace] = true
	if len(seen) != 3 || seen[""] {
		t.Errorf("traces %v", seen)
	}
}

// Each endpoint that a connection was tried at knows it by a name that the
// client's proxy has too, for a row of its own.
func TestTraceOfEachEndpoint(t *testing.T) {
	const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	answer := func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1024))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
	}
	leave := func(c *net.TCPConn) { // takes the request and leaves
		_, _ = c.Read(make([]byte, 1024))
		_ = c.SetLinger(0)
	}
	stranger := func(m *lab) { m.server.id.cert.Store(m.ca.issue(t, "spiffe://cluster.local/ns/shop/sa/stranger")) }
	for _, tc := range []struct {
		name          string
		first, second func(*net.TCPConn)
		change        func(first, second *lab)
		want          int // status
		failures      []string
	}{
		{"left without an answer", leave, answer, func(*lab, *lab) {}, 200, []string{"answer closed by peer|answer reset by peer", ""}},
		{"somebody else", answer, answer, func(first, _ *lab) { stranger(first) }, 200, []string{"handshake wrong_identity", ""}},
		{"two others", answer, answer, func(first, second *lab) { stranger(first); stranger(second) }, 503, []string{"handshake wrong_identity", "handshake wrong_identity"}},
		{"left, and somebody else", leave, answer, func(_, second *lab) { stranger(second) }, 503, []string{"answer closed by peer|answer reset by peer", "handshake wrong_identity"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newLab(t, mesh.ModeStrict, tc.first)
			other := &lab{ca: m.ca, server: newNode(t, m.ca, "boards", "127.0.0.10"), client: m.client, app: app(t, tc.second)}
			other.at = other.server.inboundFor(other.app)
			for _, l := range []*lab{m, other} {
				l.server.apply(inboundConfig(l.app.Port(), mesh.ModeStrict, mesh.HTTP))
			}
			c := outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.HTTP)
			second := c.Outbound.Clusters[0].Endpoints[0]
			second.Addr, second.Port = other.at.Addr(), other.at.Port()
			c.Outbound.Clusters[0].Endpoints = append(c.Outbound.Clusters[0].Endpoints, second)
			m.client.apply(c)
			tc.change(m, other)

			got, err := call(t, "127.0.0.5", m.client.outboundTo(vip), request)
			if err != nil || !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d", tc.want)) {
				t.Fatalf("got %q, %v", got, err)
			}
			for i, l := range []*lab{m, other} {
				server := l.server.row(ended)
				client := m.client.row(func(c mesh.Connection) bool { return ended(c) && c.Trace == server.Trace })
				if client.Upstream != l.at || client.Local != server.Source {
					t.Errorf("endpoint %d: client %+v, server %+v", i, client, server)
				}
				if got := brief(client.Failure); got != tc.failures[i] && (got == "" || !strings.Contains(tc.failures[i], got)) {
					t.Errorf("endpoint %d: %q, want %q", i, got, tc.failures[i])
				}
			}
			until(t, "there is a row at the client for each at the servers", func() bool {
				return len(m.client.Connections()) == len(m.server.Connections())+len(other.server.Connections())
			})
		})
	}
}
