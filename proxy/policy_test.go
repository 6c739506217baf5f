package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hasp/mesh"
)

// talk is a connection that has carried a byte each way and lives on.
func talk(t *testing.T, from string, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	c := dial(t, from, to)
	say(t, c, "a")
	return c
}

func say(t *testing.T, c net.Conn, msg string) {
	t.Helper()
	got := make([]byte, len(msg))
	if _, err := io.WriteString(c, msg); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil || string(got) != msg {
		t.Fatalf("said %q, got %q, %v", msg, got, err)
	}
}

func isReset(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
}

// Tightening a port ends exactly the connections it forbids.
func TestExactCutInbound(t *testing.T) {
	m := newLab(t, mesh.ModePermissive, echo)
	plain := talk(t, "127.0.0.7", m.at)
	mutual := talk(t, "127.0.0.5", m.client.outboundTo(vip))
	strict := inboundConfig(m.app.Port(), mesh.ModeStrict, mesh.TCP)
	strict.Generation = 2
	m.server.apply(strict)
	isReset(t, plain)
	say(t, mutual, "still here")
	f := m.server.row(ended)
	if f.Why != "STRICT of Policy shop/default (namespace) requires mutual TLS and the client spoke plaintext" || f.Generation != 2 || f.Allowed {
		t.Errorf("row %+v", f)
	}
	// And loosening it ends none.
	m.server.apply(inboundConfig(m.app.Port(), mesh.ModeDisable, mesh.TCP))
	say(t, mutual, "and still")
}

func TestExactCutOutbound(t *testing.T) {
	m := newLab(t, mesh.ModePermissive, echo)
	at := m.client.outboundTo(vip)
	m.client.apply(outboundConfig(m.at, m.server.spiffe, mesh.ClientTLS{Mode: mesh.ClientDisable}, mesh.TCP))
	plain := talk(t, "127.0.0.5", at)
	m.client.apply(outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.TCP))
	isReset(t, plain)
	mutual := talk(t, "127.0.0.5", at)
	// Another account runs the service now: who was right before is not any more.
	m.client.apply(outboundConfig(m.at, m.server.spiffe, istioMutual("spiffe://cluster.local/ns/shop/sa/new"), mesh.TCP))
	isReset(t, mutual)
}

func TestRegistryOnlyCutsPassthrough(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	outside := talk(t, "127.0.0.5", m.client.outboundTo(m.app))
	inside := talk(t, "127.0.0.5", m.client.outboundTo(vip))
	c := outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.TCP)
	c.Outbound.AllowAny = false
	m.client.apply(c)
	isReset(t, outside)
	say(t, inside, "still here")
}

// A client that has said nothing yet is not cut when its port tightens, but has
// the time of a handshake to speak TLS.
func TestSilentClientMeetsTightening(t *testing.T) {
	m := newLab(t, mesh.ModePermissive, echo, func(c *Config) { c.HandshakeTimeout = time.Second })
	c := dial(t, "127.0.0.7", m.at)
	m.server.row(func(c mesh.Connection) bool { return c.Upstream.IsValid() })
	m.server.apply(inboundConfig(m.app.Port(), mesh.ModeStrict, mesh.TCP))
	isReset(t, c)

	m.server.apply(inboundConfig(m.app.Port(), mesh.ModePermissive, mesh.TCP))
	c = dial(t, "127.0.0.7", m.at)
	m.server.row(func(c mesh.Connection) bool { return !ended(c) && c.Upstream.IsValid() })
	m.server.apply(inboundConfig(m.app.Port(), mesh.ModeStrict, mesh.TCP))
	if got, err := ask(c, "plaintext"); got != "" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v; want a reset", got, err)
	}
}

func TestBadConfigurationChangesNothing(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	for _, tc := range []struct {
		change func(*mesh.ProxyConfig)
		want   string
	}{
		{func(c *mesh.ProxyConfig) { c.TrustDomain = "no domain" }, `proxy: configuration 7: trustDomain "no domain": trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores`},
		{func(c *mesh.ProxyConfig) { c.MinTLS = "1.0" }, `proxy: configuration 7: minTLS "1.0": known are 1.2 and 1.3`},
		{func(c *mesh.ProxyConfig) { c.Outbound.Clusters[0].TLS.Mode = "QUANTUM" }, `proxy: configuration 7: cluster outbound|8080||boards.shop.svc.cluster.local: tls.mode "QUANTUM": unknown`},
		{func(c *mesh.ProxyConfig) { c.Outbound.Clusters[0].TLS = istioMutual("boards") }, `proxy: configuration 7: cluster outbound|8080||boards.shop.svc.cluster.local: tls.subjectAltNames "boards": scheme is missing or invalid`},
		{func(c *mesh.ProxyConfig) { c.Outbound.Listeners[0].Cluster = "x" }, `proxy: configuration 7: listener 10.96.0.3:8080: no cluster "x"`},
		{func(c *mesh.ProxyConfig) {
			c.Gateway = []mesh.Server{{Port: 80, Protocol: mesh.HTTP, Routes: []mesh.HTTPRoute{{Matches: []mesh.HTTPMatch{{PathRegex: "("}}}}}}
		}, "proxy: configuration 7: gateway -, port 80: route 0 of -: pathRegex \"(\": error parsing regexp: missing closing ): `^(?:()$`"},
	} {
		c := outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.TCP)
		c.Generation, c.TrustDomain = 7, "cluster.local"
		tc.change(&c)
		if err := m.client.Apply(&c); err == nil || err.Error() != tc.want {
			t.Errorf("got  %v\nwant %s", err, tc.want)
		}
	}
	if got, err := m.viaClient(t); got != "ping" || err != nil || m.client.Generation() != 1 {
		t.Errorf("after them: %q, %v, generation %d", got, err, m.client.Generation())
	}
}

// The modes flip under load; no request of a mesh client may fail.
func TestFlipsUnderLoad(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "ok") }))
	defer backend.Close()
	m := newLab(t, mesh.ModePermissive, echo)
	m.app = netip.MustParseAddrPort(backend.Listener.Addr().String())
	at := m.server.inboundFor(m.app)
	m.server.apply(inboundConfig(m.app.Port(), mesh.ModePermissive, mesh.HTTP))
	m.client.apply(outboundConfig(at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.HTTP))
	out := m.client.outboundTo(vip)

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var done, failed atomic.Int64
	for i := range 8 {
		tr := &http.Transport{DisableKeepAlives: i%2 == 0}
		client := &http.Client{Transport: tr, Timeout: patience}
		wg.Go(func() {
			defer tr.CloseIdleConnections()
			for ctx.Err() == nil {
				res, err := client.Get("http://" + out.String() + "/")
				if err != nil {
					failed.Add(1)
					t.Log(err)
					continue
				}
				b, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || res.StatusCode != 200 || string(b) != "ok" {
					failed.Add(1)
					t.Log(res.Status, err)
				}
				done.Add(1)
			}
		})
	}
	for i := 0; failed.Load() == 0 && (i < 100 || done.Load() < 100); i++ {
		mode := mesh.ModeStrict
		if i%2 == 0 {
			mode = mesh.ModePermissive
		}
		c := inboundConfig(m.app.Port(), mode, mesh.HTTP)
		c.Generation = uint64(i + 2)
		m.server.apply(c)
		wait(ctx, 20*time.Millisecond)
	}
	cancel()
	wg.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), done.Load())
	}
}

// A renewed certificate serves the next handshake; old connections go on.
func TestRenewalNeedsNoReconnect(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	at := m.client.outboundTo(vip)
	old := talk(t, "127.0.0.5", at)
	next := newTestCA(t)
	for _, n := range []*node{m.server, m.client} {
		pool := m.ca.pool.Clone()
		pool.AddCert(next.cert)
		n.id.roots.Store(pool)
	}
	m.server.id.cert.Store(next.issue(t, m.server.spiffe))
	talk(t, "127.0.0.5", at)
	m.client.id.cert.Store(next.issue(t, m.client.spiffe))
	talk(t, "127.0.0.5", at)
	say(t, old, "still here")
}

// Who may call is asked of new connections and of those that live, and needs an
// identity that mutual TLS proved.
func TestAuthorization(t *testing.T) {
	m := newLab(t, mesh.ModePermissive, echo)
	plain := talk(t, "127.0.0.7", m.at)
	mutual := talk(t, "127.0.0.5", m.client.outboundTo(vip))
	only := func(principal string) mesh.ProxyConfig {
		c := inboundConfig(m.app.Port(), mesh.ModePermissive, mesh.TCP)
		c.Inbound.Authorization.Allow = []mesh.AuthorizationRules{{
			Origin: mesh.Origin{Kind: "AuthorizationPolicy", Namespace: "shop", Name: "callers", Level: mesh.LevelNamespace},
			Rules:  []mesh.AuthorizationRule{{From: []mesh.AuthorizationSource{{Principals: []string{principal}}}}},
		}}
		return c
	}
	m.server.apply(only(strings.TrimPrefix(m.client.spiffe, "spiffe://")))
	isReset(t, plain)
	f := m.server.row(ended)
	if want := "AuthorizationPolicy shop/callers (namespace) does not allow 127.0.0.7, which proved no identity"; f.Why != want || f.Rule.Name != "callers" {
		t.Errorf("row %+v, want %s", f, want)
	}
	say(t, mutual, "still here")
	say(t, talk(t, "127.0.0.5", m.client.outboundTo(vip)), "new")
	m.server.apply(only("cluster.local/ns/shop/sa/other"))
	isReset(t, mutual)
}
