package proxy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// trunkLab is two proxies that keep their connections, and a workload.
func trunkLab(t *testing.T, proto mesh.Protocol, change ...func(*Config)) (m *lab, at netip.AddrPort) {
	t.Helper()
	return trunkLabOf(t, app(t, echo), proto, change...)
}

func trunkLabOf(t *testing.T, app netip.AddrPort, proto mesh.Protocol, change ...func(*Config)) (m *lab, at netip.AddrPort) {
	t.Helper()
	m = &lab{ca: newTestCA(t), app: app}
	fast := func(c *Config) {
		f := new(relay.Fast)
		t.Cleanup(f.Close)
		c.Relay = f
	}
	m.server = newNode(t, m.ca, "boards", "127.0.0.9", append([]func(*Config){fast}, change...)...)
	m.client = newNode(t, m.ca, "app-ui", "127.0.0.5", fast)
	m.at = m.server.inboundFor(m.app)
	m.server.apply(inboundConfig(m.app.Port(), mesh.ModeStrict, proto))
	m.client.apply(outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), proto))
	return m, m.client.outboundTo(vip)
}

// talk makes one connection after the other, each when the one before has ended
// at both ends, and returns what the two proxies have of each.
func (m *lab) talk(t *testing.T, at netip.AddrPort, n int) (out, in []mesh.Connection) {
	t.Helper()
	for i := range n {
		before := len(m.ended(m.server)) // as many have ended at the client
		msg := fmt.Sprint("message ", i)
		if got, err := call(t, "127.0.0.5", at, msg); got != msg || err != nil {
			t.Fatalf("%s: got %q, %v", msg, got, err)
		}
		m.client.row(func(mesh.Connection) bool { return len(m.ended(m.client)) > before && len(m.ended(m.server)) > before })
		m.idle(t, 1)
	}
	return m.ended(m.client), m.ended(m.server)
}

// ended are the connections of a proxy that have, in the order they began.
func (m *lab) ended(n *node) (out []mesh.Connection) {
	for _, c := range n.Connections() {
		if ended(c) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b mesh.Connection) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// idle waits until the client has that many trunks to use.
func (m *lab) idle(t *testing.T, want int) {
	t.Helper()
	count := func() int {
		m.client.trunks.mu.Lock()
		defer m.client.trunks.mu.Unlock()
		return m.client.trunks.nOut
	}
	for end := time.Now().Add(patience); count() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d idle trunks, want %d", count(), want)
		}
	}
}

func TestOneHandshakeForMany(t *testing.T) {
	m, at := trunkLab(t, mesh.TCP)
	out, in := m.talk(t, at, 5)
	for i := range out {
		o, n := out[i], in[i]
		if o.Reused != uint32(i) || n.Reused != uint32(i) || o.Trace != n.Trace || o.Trace == "" {
			t.Errorf("connection %d: reused %d and %d, traces %q and %q", i, o.Reused, n.Reused, o.Trace, n.Trace)
		}
		if i > 0 && (o.Trace == out[i-1].Trace || !o.HandshakeAt.Before(o.Start) || o.Local != out[0].Local) {
			t.Errorf("connection %d: %+v", i, o)
		}
		for _, c := range []mesh.Connection{o, n} {
			if c.Security != mesh.MutualTLS || !c.Allowed || c.TLS != "1.3" || c.Received != 9 || c.Sent != 9 {
				t.Errorf("connection %d: %+v", i, c)
			}
		}
		if o.PeerIdentity != m.server.spiffe || n.PeerIdentity != m.client.spiffe || n.Source != o.Local || n.Destination != m.app {
			t.Errorf("connection %d: %+v\n%+v", i, o, n)
		}
	}
}

// TestTrunksOff: mesh-wide settings or either proxy's own have each connection make
// its own handshake, and a trunk that waits is left alone from then on.
func TestTrunksOff(t *testing.T) {
	off := func(c *Config) { c.NoTrunks = true }
	m, at := trunkLab(t, mesh.TCP, off) // the server's
	for range 2 {
		m.talkAnew(t, at)
	}
	m.idle(t, 0)

	m, at = trunkLab(t, mesh.TCP)
	m.talk(t, at, 2)
	c := outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.TCP)
	c.Settings.NoTrunks = true
	m.client.apply(c)
	for range 2 {
		m.talkAnew(t, at)
	}
	m.idle(t, 1) // the one of before, which grows old
	m.client.apply(outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.TCP))
	m.talk(t, at, 1)
	if out := m.ended(m.client); out[len(out)-1].Reused != 2 {
		t.Errorf("trunks are on again, and the connection was one of %d", out[len(out)-1].Reused)
	}
}

// talkAnew makes a connection, which must not be on a trunk nor leave one.
func (m *lab) talkAnew(t *testing.T, at netip.AddrPort) {
	t.Helper()
	before := len(m.ended(m.client))
	if got, err := call(t, "127.0.0.5", at, "hi"); got != "hi" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	m.client.row(func(mesh.Connection) bool { return len(m.ended(m.client)) > before })
	c := m.ended(m.client)[before]
	if c.Reused != 0 || c.Security != mesh.MutualTLS || c.ALPN != alpnIstio {
		t.Errorf("%+v", c)
	}
}

func TestEachConnectionOnATrunkIsDecided(t *testing.T) {
	m, at := trunkLab(t, mesh.TCP)
	m.talk(t, at, 2)
	deny := inboundConfig(m.app.Port(), mesh.ModeStrict, mesh.TCP)
	deny.Inbound.Authorization.Deny = []mesh.AuthorizationRules{{
		Origin: mesh.Origin{Kind: "AuthorizationPolicy", Namespace: "shop", Name: "nobody", Level: mesh.LevelNamespace},
		Rules:  []mesh.AuthorizationRule{{}},
	}}
	m.server.apply(deny)
	if got, err := call(t, "127.0.0.5", at, "hello"); got != "" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v, want a reset", got, err)
	}
	c := m.server.row(func(c mesh.Connection) bool { return !c.Allowed && c.Reused == 2 && ended(c) })
	if c.Rule.Name != "nobody" || c.PeerIdentity != m.client.spiffe {
		t.Errorf("%+v", c)
	}
	m.server.apply(inboundConfig(m.app.Port(), mesh.ModeStrict, mesh.TCP))
	if out, _ := m.talk(t, at, 1); out[len(out)-1].Reused != 0 {
		t.Errorf("%+v", out[len(out)-1])
	}
}

func TestATrunkIsNoOlderThanWhatItShowed(t *testing.T) {
	for name, change := range map[string]func(m *lab){
		"the client's certificate was renewed": func(m *lab) { m.client.id.cert.Store(m.ca.issue(t, m.client.spiffe)) },
		"the server's was":                     func(m *lab) { m.server.id.cert.Store(m.ca.issue(t, m.server.spiffe)) },
		"the client trusts others":             func(m *lab) { m.client.id.roots.Store(x509.NewCertPool()) },
		"the server trusts others":             func(m *lab) { m.server.id.roots.Store(x509.NewCertPool()) },
	} {
		t.Run(name, func(t *testing.T) {
			m, at := trunkLab(t, mesh.TCP)
			m.talk(t, at, 2)
			change(m)
			want := "hello"
			if m.client.id.Roots() != m.ca.pool || m.server.id.Roots() != m.ca.pool {
				want = ""
			}
			if got, err := call(t, "127.0.0.5", at, "hello"); got != want || (err == nil) != (want != "") {
				t.Errorf("got %q, %v", got, err)
			}
			m.client.row(func(c mesh.Connection) bool { return c.ID > 2 && c.Reused == 0 && ended(c) })
		})
	}
}

// The roots are other ones but hold what they held: the chain is verified again,
// and the trunk goes on.
func TestATrunkOutlivesRootsThatAreAsGood(t *testing.T) {
	m, at := trunkLab(t, mesh.TCP)
	m.talk(t, at, 1)
	m.client.id.roots.Store(m.ca.pool.Clone())
	m.server.id.roots.Store(m.ca.pool.Clone())
	if out, _ := m.talk(t, at, 1); out[1].Reused != 1 {
		t.Errorf("%+v", out[1])
	}
}

func TestAServerThatKeepsNothing(t *testing.T) {
	m, at := trunkLab(t, mesh.TCP, func(c *Config) { c.Relay = relay.Portable{} })
	for i := range 3 {
		if got, err := call(t, "127.0.0.5", at, "hello"); got != "hello" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		m.client.row(func(c mesh.Connection) bool {
			return c.ID == uint64(i+1) && c.Reused == 0 && c.ALPN == alpnIstio && ended(c)
		})
	}
}

func TestTrunksThatTheServerClosed(t *testing.T) {
	m, at := trunkLab(t, mesh.TCP)
	m.talk(t, at, 2)
	m.server.trunks.close()
	m.idle(t, 0)
	if got, err := call(t, "127.0.0.5", at, "hello"); got != "hello" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	m.client.row(func(c mesh.Connection) bool { return c.ID == 3 && c.Reused == 0 && ended(c) })
}

func TestHalfCloseOnATrunk(t *testing.T) {
	m, at := trunkLab(t, mesh.TCP)
	m.talk(t, at, 1)
	c := dial(t, "127.0.0.5", at)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		c.Write(big)
		c.CloseWrite()
	}()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, big) {
		t.Errorf("got %d bytes, %v, want %d", len(got), err, len(big))
	}
	m.client.row(func(c mesh.Connection) bool { return c.Reused == 1 && ended(c) && c.Sent == uint64(len(big)) })
}

func TestAResetEndsTheTrunk(t *testing.T) {
	m, at := trunkLab(t, mesh.TCP)
	m.talk(t, at, 1)
	c := dial(t, "127.0.0.5", at)
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	relay.Reset(c)
	for _, n := range []*node{m.client, m.server} {
		if c := n.row(func(c mesh.Connection) bool { return c.Reused == 1 && ended(c) }); c.Why == "" {
			t.Errorf("%+v", c)
		}
	}
	m.idle(t, 0)
	if got, err := call(t, "127.0.0.5", at, "hello"); got != "hello" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// Short connections from many clients at once, some of which leave in the middle:
// what each is answered is its own.
func TestManyAtOnceOnTrunks(t *testing.T) {
	m, at := trunkLab(t, mesh.TCP)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			random := mrand.New(mrand.NewPCG(1, uint64(g)))
			for i := range 60 {
				msg := strings.Repeat(fmt.Sprintf("%d.%d ", g, i), random.IntN(1<<random.IntN(15)))
				if random.IntN(5) == 0 {
					c, err := net.Dial("tcp", at.String())
					if err != nil {
						t.Error(err)
						return
					}
					io.WriteString(c, msg)
					c.Close()
					continue
				}
				if got, err := call(t, "127.0.0.5", at, msg); got != msg || err != nil {
					t.Errorf("%d.%d: %d bytes of %d, %v", g, i, len(got), len(msg), err)
				}
			}
		})
	}
	wg.Wait()
	if m.client.row(func(c mesh.Connection) bool { return c.Reused > 3 }).Trace == "" {
		t.Error("no trace")
	}
}

// A workload that does not listen any more is found out before the application's
// first byte has left, so that nothing is lost.
func TestNobodyListensBehindATrunk(t *testing.T) {
	ln := listenOn(t, "127.0.0.1")
	m, at := trunkLabOf(t, appOn(t, ln, echo), mesh.TCP)
	m.talk(t, at, 1)
	ln.Close()
	if got, err := call(t, "127.0.0.5", at, "hello"); got != "" || err == nil {
		t.Errorf("got %q, %v", got, err)
	}
	c := m.server.row(func(c mesh.Connection) bool { return c.Reused == 1 && ended(c) })
	if c.Failure == nil || c.Failure.Stage != mesh.StageDial {
		t.Errorf("%+v", c)
	}
}

func FuzzHello(f *testing.F) {
	f.Add(append([]byte{helloByte}, make([]byte, 32)...))
	f.Add([]byte{welcomeByte})
	f.Fuzz(func(t *testing.T, p []byte) {
		random, err := readHelloOnTrunk(p)
		if (err == nil) != (len(p) == helloSize && p[0] == helloByte) || err == nil && len(random) != 32 {
			t.Errorf("%x: %x, %v", p, random, err)
		}
	})
}

// patient is a dialer that can be told to wait.
type patient struct {
	Dialer
	until atomic.Pointer[chan struct{}]
}

func (b *patient) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if until := b.until.Load(); until != nil {
		select {
		case <-*until:
		case <-ctx.Done():
		}
	}
	return b.Dialer.DialContext(ctx, network, address)
}

// block has the dialer wait until the function is called.
func (b *patient) block() func() {
	until := make(chan struct{})
	b.until.Store(&until)
	return func() { close(until) }
}

// A connection that is cut while it waits for the server's welcome takes the trunk
// along, which nobody else has.
func TestACutBeforeTheWelcome(t *testing.T) {
	var d patient
	m, at := trunkLab(t, mesh.TCP, func(c *Config) { d.Dialer, c.Dialer = c.Dialer, &d })
	m.talk(t, at, 1)
	release := d.block()
	c := dial(t, "127.0.0.5", at)
	on := func(c mesh.Connection) bool { return c.Reused == 1 }
	m.client.row(on)
	m.server.row(on)
	for _, r := range m.client.table.rows() {
		r.reset("a test")
	}
	m.client.row(func(c mesh.Connection) bool { return on(c) && ended(c) })
	release()
	m.server.row(func(c mesh.Connection) bool { return on(c) && ended(c) })
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the application: %v", err)
	}
}

// Whoever takes a trunk can hear the answer, however soon.
func TestATrunkIsWholeWhenItIsIdle(t *testing.T) {
	ts := newTrunks()
	ts.keep(&trunk{p: &Proxy{trunks: ts}})
	if got := ts.take(trunkKey{}); got == nil || got.answer == nil {
		t.Errorf("%+v", got)
	}
}

// A server that says nothing, for its machine is gone, is asked once, and not on
// each trunk there is.
func TestASilentServerIsAskedOnce(t *testing.T) {
	var d patient
	m, at := trunkLab(t, mesh.TCP, func(c *Config) { d.Dialer, c.Dialer = c.Dialer, &d })
	const n = 3
	var all []*net.TCPConn
	for i := range n {
		all = append(all, dial(t, "127.0.0.5", at))
		m.client.row(func(c mesh.Connection) bool { return c.ID == uint64(i+1) && c.Security == mesh.MutualTLS })
	}
	for _, c := range all {
		c.CloseWrite()
	}
	m.idle(t, n)
	release := d.block()
	defer release()
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		defer stop()
		m.server.row(func(c mesh.Connection) bool { return c.Reused > 0 })
	}()
	var u upstreamTLS
	m.client.trunks.mu.Lock()
	for key := range m.client.trunks.outbound {
		u.key = key.how
	}
	m.client.trunks.mu.Unlock()
	r := m.client.table.open(mesh.OutboundDir, nil, time.Now())
	if side := m.client.ontoTrunk(ctx, r, &u, &mesh.Endpoint{Addr: m.at.Addr(), Port: m.at.Port()}); side != nil {
		t.Error("a silent server took a connection")
	}
	m.client.end(r)
	m.idle(t, 0)
	asked := 0
	for _, c := range m.server.Connections() {
		if c.Reused > 0 {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("%d trunks were tried", asked)
	}
}
