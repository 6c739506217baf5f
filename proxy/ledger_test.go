package proxy

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hasp/mesh"
)

// edges waits until the ledger's lines are as many as wanted and none is open,
// and returns them, by key.
func (n *node) edges(want int) []mesh.Edge {
	n.t.Helper()
	var all []mesh.Edge
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		all = n.Facts().Report(true).Edges
		if len(all) == want && !slices.ContainsFunc(all, func(e mesh.Edge) bool { return e.Open > 0 }) {
			slices.SortFunc(all, func(a, b mesh.Edge) int { return cmp.Compare(fmt.Sprint(a.EdgeKey), fmt.Sprint(b.EdgeKey)) })
			return all
		}
	}
	n.t.Fatalf("%d lines, want %d: %+v", len(all), want, all)
	return nil
}

var whatVaries = cmpopts.IgnoreFields(mesh.Edge{}, "First", "Last", "LastTrace", "Handshake", "Latency")

var addresses = gocmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func TestEdgesOfBothEnds(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			w.WriteHeader(500)
		}
	}))
	defer backend.Close()
	m := bothEnds(t, mesh.HTTP, netip.MustParseAddrPort(backend.Listener.Addr().String()))
	c := dial(t, "127.0.0.5", m.client.outboundTo(vip))
	br := bufio.NewReader(c)
	for _, path := range []string{"/", "/broken"} {
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		if _, err := http.ReadResponse(br, nil); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	if got, err := call(t, "127.0.0.7", m.at, "GET / HTTP/1.1\r\n\r\n"); got != "" || err == nil {
		t.Errorf("a stranger got %q, %v", got, err)
	}

	out, in := m.client.edges(1)[0], m.server.edges(2)
	if out.Sent != in[1].Sent || out.Received != in[1].Received || out.Sent == 0 || out.Received == 0 {
		t.Errorf("bytes: %d and %d at the client's end, %d and %d at the server's", out.Sent, out.Received, in[1].Sent, in[1].Received)
	}
	for _, e := range []mesh.Edge{out, in[1]} {
		if h := e.Handshake; h == nil || h.TLS != "1.3" || h.PeerIdentity != e.PeerIdentity || h.Group == "" {
			t.Errorf("%s: handshake %+v", e.Direction, e.Handshake)
		}
		var sum uint64
		for _, n := range e.Latency {
			sum += n
		}
		if sum != 2 || len(e.Latency) != len(mesh.LatencyBounds)+1 {
			t.Errorf("%s: latency %v", e.Direction, e.Latency)
		}
	}
	rule := mesh.Origin{Kind: "Policy", Namespace: "shop", Name: "default", Level: mesh.LevelNamespace}
	want := []mesh.Edge{
		{
			EdgeKey: mesh.EdgeKey{
				Node: "shop/boards-7d4b9cb5f-x2x9z", Direction: mesh.InboundDir, PeerNet: netip.MustParsePrefix("127.0.0.7/32"),
				Service: boardsHost, Port: m.app.Port(), Security: mesh.Plaintext,
			},
			Protocol: mesh.HTTP, Why: "STRICT of Policy shop/default (namespace) requires mutual TLS and the client spoke plaintext",
			Mode: "STRICT", Rule: rule, Generation: 1, Connections: 1,
		},
		{
			EdgeKey: mesh.EdgeKey{
				Node: "shop/boards-7d4b9cb5f-x2x9z", Direction: mesh.InboundDir, Peer: "shop/app-ui-6fcd58479d-4kq8v",
				PeerIdentity: m.client.spiffe, Service: boardsHost, Port: m.app.Port(), Security: mesh.MutualTLS, Allowed: true,
			},
			Protocol: mesh.HTTP, Mode: "STRICT", Rule: rule, Generation: 1, Connections: 1, Requests: 2, Errors: 1, Sent: out.Sent, Received: out.Received,
		},
		{
			EdgeKey: mesh.EdgeKey{
				Node: "shop/app-ui-6fcd58479d-4kq8v", Direction: mesh.OutboundDir, Peer: "shop/boards-7d4b9cb5f-x2x9z",
				PeerIdentity: m.server.spiffe, Service: boardsHost, Port: 8080, Security: mesh.MutualTLS, Allowed: true,
			},
			Protocol: mesh.HTTP, Mode: "ISTIO_MUTUAL", Rule: istioMutual().Origin, Generation: 1, Connections: 1, Requests: 2, Errors: 1, Sent: out.Sent, Received: out.Received,
		},
	}
	if diff := gocmp.Diff(want, append(in, out), whatVaries, addresses); diff != "" {
		t.Error(diff)
	}
}

// What a connection is, is known by what the client says; it is counted once.
func TestPlaintextIsCountedAsWhatItIs(t *testing.T) {
	m := newLab(t, mesh.ModeDisable, echo)
	for _, said := range []string{"hello", "\x16\x03\x01 somebody's TLS", ""} {
		if got, err := call(t, "127.0.0.7", m.at, said); got != said || err != nil {
			t.Fatalf("%q: %q, %v", said, got, err)
		}
	}
	until(t, "all have ended", func() bool { return len(m.server.Connections()) == 3 && m.server.table.size() == 0 })
	var got []string
	for _, e := range m.server.edges(2) {
		got = append(got, fmt.Sprintf("%s %d connections %d bytes", e.Security, e.Connections, e.Received))
	}
	if want := []string{"none 2 connections 5 bytes", "opaque 1 connections 18 bytes"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLatencyBounds(t *testing.T) {
	if len(mesh.LatencyBounds)+1 != latencies {
		t.Fatalf("%d counters for %d bounds", latencies, len(mesh.LatencyBounds))
	}
	for d, want := range map[time.Duration]int{0: 0, time.Millisecond: 1, time.Millisecond + 1: 2, time.Hour: 12} {
		if got := latencyOf(d); got != want {
			t.Errorf("%s: %d, want %d", d, got, want)
		}
	}
}

func TestClusterPort(t *testing.T) {
	for name, want := range map[string]uint16{"outbound|8080||boards.shop": 8080, "outbound|99999||x": 0, "": 0, "PassthroughCluster": 0} {
		if got := clusterPort(name); got != want {
			t.Errorf("%q: %d, want %d", name, got, want)
		}
	}
}

func TestStringsOfOthersAreCutShort(t *testing.T) {
	if got := word(strings.Repeat("ä", 200)); got != strings.Repeat("ä", 128) {
		t.Errorf("%d bytes", len(got))
	}
	if got := word("x" + strings.Repeat("ä", 200)); got != "x"+strings.Repeat("ä", 127) {
		t.Errorf("half a letter: %d bytes", len(got))
	}
}

// stranger is a connection of the i-th of many who are not of the mesh.
func stranger(i int) mesh.Connection {
	var a [16]byte
	binary.BigEndian.PutUint64(a[8:], uint64(i)<<20)
	addr := netip.AddrFrom16(a)
	if i%2 == 0 {
		addr = netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(i)<<4)))
	}
	return mesh.Connection{
		Direction: mesh.InboundDir, Source: netip.AddrPortFrom(addr, uint16(i)), Destination: netip.MustParseAddrPort("10.0.0.1:8080"),
		Security: mesh.Plaintext, Why: strings.Repeat("x", 300), Allowed: i%3 == 0,
	}
}

// However many strangers there are, the ledger has a bound, every connection is
// in it and no line about a workload is lost.
func TestLedgerUnderFlood(t *testing.T) {
	g := newLedger(time.Now, func() {})
	friend := mesh.Connection{Direction: mesh.InboundDir, PeerWorkload: "shop/app-ui", Source: netip.MustParseAddrPort("10.0.0.2:1"), Security: mesh.MutualTLS, PeerIdentity: identityPrefix + "app-ui", Allowed: true}
	g.finish(g.begin(&friend))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const peers = 1_000_000
	for i := range peers {
		f := stranger(i)
		l := g.begin(&f)
		g.move(l, 1, 2, time.Time{})
		g.finish(l)
	}
	late := friend
	late.PeerWorkload = "shop/late"
	g.finish(g.begin(&late))
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("the heap grew by %d KiB", grown>>10)
	}
	edges, left := g.news("shop/boards", 1<<20)
	if len(edges) > maxStrangerLines+maxNetworkLines+10 || left {
		t.Errorf("%d lines", len(edges))
	}
	var total, sent, known, single, network, rest uint64
	for _, e := range edges {
		total += e.Connections
		sent += e.Sent
		switch {
		case e.Peer != "":
			known++
		case !e.PeerNet.IsValid():
			rest++
		case e.PeerNet.IsSingleIP():
			single++
		default:
			network++
		}
	}
	if total != peers+2 || sent != peers || known != 2 || single != maxStrangerLines || network != maxNetworkLines || rest != 2 {
		t.Errorf("%d connections, %d bytes, of %d workloads, %d strangers, %d networks, %d others", total, sent, known, single, network, rest)
	}
}

// One who scans ports is not many.
func TestOnePeerHasNotAllLines(t *testing.T) {
	g := newLedger(time.Now, func() {})
	for _, f := range []mesh.Connection{
		{Direction: mesh.InboundDir, PeerWorkload: "shop/scan", Security: mesh.Plaintext},
		{Direction: mesh.InboundDir, Source: netip.MustParseAddrPort("10.0.0.9:1"), Security: mesh.Plaintext},
	} {
		for port := range uint16(2000) {
			f.Destination = netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), port+1)
			g.finish(g.begin(&f))
		}
	}
	edges, _ := g.news("", 1<<20)
	if want := maxLinesOfPeer + 1 + maxLinesOfStranger + 1; len(edges) != want {
		t.Errorf("%d lines, want %d", len(edges), want)
	}
}

// Lines that were told and to which nothing happens make room; others do not.
func TestIdleLinesMakeRoom(t *testing.T) {
	now := time.Now()
	g := newLedger(func() time.Time { return now }, func() {})
	begin := func(i int) *line {
		f := mesh.Connection{PeerWorkload: fmt.Sprint("shop/", i), Security: mesh.Plaintext}
		return g.begin(&f)
	}
	for i := range maxKnownLines {
		if l := begin(i); i > 0 {
			g.finish(l)
		}
	}
	if l := begin(-1); l.region != remainder {
		t.Error("a line was forgotten that nobody was told of")
	}
	g.news("", 1<<20)
	now = now.Add(idleLine)
	if l := begin(-2); l.region != knownPeers {
		t.Error("no idle line made room")
	}
	if n := g.used[knownPeers]; n != 2 { // the new one, and the one that is open
		t.Errorf("%d lines stayed", n)
	}
}

// The bytes of connections that live are in the ledger too.
func TestLedgerCountsWhatLives(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	at := m.client.outboundTo(vip)
	for i := range 20 {
		c := talk(t, "127.0.0.5", at)
		say(t, c, strings.Repeat("x", 100*i+1))
		if i%2 == 0 {
			c.Close()
		}
	}
	const want = 20 + 20 + 100*190
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		e := m.server.Facts().Report(true).Edges
		if len(e) == 1 && e[0].Connections == 20 && e[0].Open == 10 && e[0].Received == want && e[0].Sent == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%+v", e)
		}
	}
}
