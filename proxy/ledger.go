package proxy

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hasp/mesh"
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
		at := f.HandshakeAt
		if at.IsZero() {
			at = now
		}
		l.handshake = mesh.Handshake{
			At: at, Reused: f.Reused, TLS: f.TLS, Group: f.Group, Cipher: f.Cipher, ALPN: word(f.ALPN), Resumed: f.Resumed,
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
