package proxy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hasp/mesh"
)

// How much the ledger holds. Workloads and strangers have room of their own, so
// that a flood of strangers pushes out no line about a workload.
const (
	maxKnownLines    = 1024
	maxStrangerLines = 512 // about single addresses
	maxNetworkLines  = 256 // about the networks of the other addresses
	// A workload or address that is met in more ways than this has the rest of
	// them summed up under port 0: one that scans ports is one line.
	maxLinesOfPeer     = 64
	maxLinesOfStranger = 16
	// idleLine is how long nothing may have happened to a line before it makes
	// room for a new one.
	idleLine = 10 * time.Minute
	// maxWord bounds a string that others chose.
	maxWord = 256
)

// ledger is who this workload has talked to and how: sums of its connections,
// those that live included. Each connection is counted in one line. What there
// is no room for is summed up, by network and then altogether, never lost.
type ledger struct {
	now   func() time.Time
	dirty func() // called when there is something to tell

	mu    sync.Mutex
	lines map[mesh.EdgeKey]*line
	used  [regions]int
	of    map[party]int // lines of each peer
	// fresh are the lines that changed since they were told.
	fresh []*line
	// tried is when a region was last searched for idle lines.
	tried [regions]time.Time
}

// region is a part of the ledger with a bound of its own.
type region int

const (
	knownPeers region = iota
	strangers
	networks
	remainder // bounded by its few keys
	regions
)

var regionSize = [regions]int{knownPeers: maxKnownLines, strangers: maxStrangerLines, networks: maxNetworkLines}

// line is a mesh.Edge that is being counted.
type line struct {
	region region
	// What a request touches, without a lock.
	fresh            atomic.Bool // it is in ledger.fresh
	requests, errors atomic.Uint64
	latency          [latencies]atomic.Uint64

	// Under the ledger's lock.
	edge      mesh.Edge
	handshake mesh.Handshake // of edge; zero when there was none
}

// latencies are the counters of mesh.Edge.Latency: one for each bound, and one
// for what is slower.
const latencies = 13

func latencyOf(d time.Duration) int {
	for i, bound := range mesh.LatencyBounds {
		if d <= bound {
			return i
		}
	}
	return len(mesh.LatencyBounds)
}

func newLedger(now func() time.Time, dirty func()) *ledger {
	return &ledger{now: now, dirty: dirty, lines: make(map[mesh.EdgeKey]*line), of: make(map[party]int)}
}

// begin counts a connection that has been decided about.
func (g *ledger) begin(f *mesh.Connection) *line {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	l := g.place(edgeKey(f), now)
	e := &l.edge
	e.Connections++
	e.Open++
	e.Protocol, e.Why, e.Mode, e.Rule, e.Generation = f.Protocol, word(f.Why), f.Mode, f.Rule, f.Generation
	e.Last, e.LastTrace = now, f.Trace
	if f.TLS != "" {
		l.handshake = mesh.Handshake{
			At: now, TLS: f.TLS, Group: f.Group, Cipher: f.Cipher, ALPN: word(f.ALPN), Resumed: f.Resumed,
			LocalIdentity: f.LocalIdentity, PeerIdentity: word(f.PeerIdentity),
		}
	}
	g.touch(l)
	return l
}

// move adds bytes that moved since the last time. at is when the last of them
// did.
func (g *ledger) move(l *line, sent, received uint64, at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l.edge.Sent += sent
	l.edge.Received += received
	if at.After(l.edge.Last) {
		l.edge.Last = at
	}
	g.touch(l)
}

// finish takes a connection from those that are open.
func (g *ledger) finish(l *line) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l.edge.Open--
	g.touch(l)
}

// takeBack undoes begin and all moves of a connection that turned out to be
// something else than it was counted as.
func (g *ledger) takeBack(l *line, sent, received uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l.edge.Connections--
	l.edge.Open--
	l.edge.Sent -= sent
	l.edge.Received -= received
	g.touch(l)
}

// exchange counts a request.
func (g *ledger) exchange(l *line, x exchange) {
	l.requests.Add(1)
	if x.failed() {
		l.errors.Add(1)
	}
	l.latency[latencyOf(x.Duration)].Add(1)
	if !l.fresh.Load() { // else it will be read after this
		g.mu.Lock()
		defer g.mu.Unlock()
		g.touch(l)
	}
}

// touch notes that a line changed. Callers hold mu.
func (g *ledger) touch(l *line) {
	if l.fresh.Load() {
		return
	}
	l.fresh.Store(true)
	g.fresh = append(g.fresh, l)
	g.dirty()
}

// news are lines that changed since they were told, at most n; left says that
// there are more.
func (g *ledger) news(node string, n int) (edges []mesh.Edge, left bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n = min(n, len(g.fresh))
	for _, l := range g.fresh[:n] {
		l.fresh.Store(false) // before it is read, see exchange
		edges = append(edges, l.sum(node))
		if l.edge.Connections == 0 { // all of it was taken back
			g.remove(l)
		}
	}
	g.fresh = slices.Delete(g.fresh, 0, n)
	return edges, len(g.fresh) > 0
}

// tellAll has every line told (again).
func (g *ledger) tellAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range g.lines {
		g.touch(l)
	}
}

// sum is the line as it stands. Callers hold the ledger's lock.
func (l *line) sum(node string) mesh.Edge {
	e := l.edge
	e.Node = node
	e.Requests, e.Errors = l.requests.Load(), l.errors.Load()
	if e.Requests > 0 {
		e.Latency = make([]uint64, len(l.latency))
		for i := range l.latency {
			e.Latency[i] = l.latency[i].Load()
		}
	}
	if !l.handshake.At.IsZero() {
		h := l.handshake
		e.Handshake = &h
	}
	return e
}

// place is the line for a key, made if there is room, else one that sums up.
// Callers hold mu.
func (g *ledger) place(key mesh.EdgeKey, now time.Time) *line {
	if l := g.lines[key]; l != nil {
		return l
	}
	if known(&key) {
		if l := g.room(knownPeers, key, maxLinesOfPeer, now); l != nil {
			return l
		}
	} else if key.PeerNet.IsValid() {
		if l := g.room(strangers, key, maxLinesOfStranger, now); l != nil {
			return l
		}
		bits := 64
		if key.PeerNet.Addr().Is4() {
			bits = 24
		}
		net := key
		net.PeerNet, _ = key.PeerNet.Addr().Prefix(bits) // no error: the length fits the family
		if l := g.room(networks, net, maxLinesOfStranger, now); l != nil {
			return l
		}
	}
	rest := mesh.EdgeKey{Direction: key.Direction, Security: key.Security, Allowed: key.Allowed}
	if l := g.lines[rest]; l != nil {
		return l
	}
	return g.add(remainder, rest, now)
}

// room is the line for a key in a region, nil when there is none and no room to
// make it.
func (g *ledger) room(in region, key mesh.EdgeKey, most int, now time.Time) *line {
	if l := g.lines[key]; l != nil {
		return l
	}
	if g.of[partyOf(&key)] >= most {
		key.Service, key.Port = "", 0
		if key.PeerIdentity != "" && key.Peer == "" {
			key.PeerNet = netip.Prefix{}
		}
		if l := g.lines[key]; l != nil {
			return l
		}
	}
	if g.used[in] >= regionSize[in] {
		g.dropIdle(in, now)
		if g.used[in] >= regionSize[in] {
			return nil
		}
	}
	return g.add(in, key, now)
}

func (g *ledger) add(in region, key mesh.EdgeKey, now time.Time) *line {
	l := &line{region: in, edge: mesh.Edge{EdgeKey: key, First: now}}
	g.lines[key] = l
	g.used[in]++
	g.of[partyOf(&key)]++
	return l
}

func (g *ledger) remove(l *line) {
	delete(g.lines, l.edge.EdgeKey)
	g.used[l.region]--
	who := partyOf(&l.edge.EdgeKey)
	if g.of[who]--; g.of[who] == 0 {
		delete(g.of, who)
	}
}

// dropIdle forgets lines of a region about which all has been told and to which
// nothing happens any more. It looks at all of them, so it does not do so often.
func (g *ledger) dropIdle(in region, now time.Time) {
	if now.Sub(g.tried[in]) < idleLine/10 {
		return
	}
	g.tried[in] = now
	for _, l := range g.lines {
		if l.region == in && l.edge.Open == 0 && !l.fresh.Load() && now.Sub(l.edge.Last) >= idleLine {
			g.remove(l)
		}
	}
}

// party is whom a line is about.
type party struct {
	name string // workload, else identity
	net  netip.Prefix
}

func partyOf(k *mesh.EdgeKey) party {
	switch {
	case k.Peer != "":
		return party{name: k.Peer}
	case known(k):
		return party{name: k.PeerIdentity}
	}
	return party{net: k.PeerNet}
}

// known tells whether a line is about a workload: the directory or mutual TLS
// says so.
func known(k *mesh.EdgeKey) bool {
	return k.Peer != "" || k.Security == mesh.MutualTLS && k.PeerIdentity != ""
}

// edgeKey is the line a connection belongs to.
func edgeKey(f *mesh.Connection) mesh.EdgeKey {
	k := mesh.EdgeKey{
		Direction: f.Direction, Peer: word(f.PeerWorkload), Service: word(f.Service), Port: f.Destination.Port(),
		Security: f.Security, Allowed: f.Allowed,
	}
	if f.Security == mesh.MutualTLS || f.Security == mesh.SimpleTLS {
		k.PeerIdentity = word(f.PeerIdentity)
	}
	if !f.Destination.IsValid() {
		k.Port = clusterPort(f.Cluster)
	}
	if k.Peer == "" {
		k.PeerNet = single(peerAddr(f))
	}
	return k
}

// peerAddr is the address of the other workload.
func peerAddr(f *mesh.Connection) netip.Addr {
	switch {
	case f.Direction == mesh.InboundDir:
		return f.Source.Addr()
	case f.Upstream.IsValid():
		return f.Upstream.Addr()
	}
	return f.Destination.Addr()
}

func single(a netip.Addr) netip.Prefix {
	if !a.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// clusterPort is the port in a cluster's name: outbound|8080||boards.shop...
func clusterPort(name string) (port uint16) {
	_, rest, _ := strings.Cut(name, "|")
	digits, _, _ := strings.Cut(rest, "|")
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// word is a string that others chose, cut short.
func word(s string) string { return cutTo(s, maxWord) }

func cutTo(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
