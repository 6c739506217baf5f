package truth

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"hasp/mesh"
)

// LedgerVersion is that of the form of Ledger.
const LedgerVersion = 1

// Ledger is what a Book keeps over a restart: its lines, not its connections,
// which the proxies tell anew. It goes to JSON and back.
type Ledger struct {
	Version   int          `json:"version"`
	Since     time.Time    `json:"since"`
	Forgotten uint64       `json:"forgotten,omitempty"`
	Lines     []LedgerLine `json:"lines,omitempty"`
	Workloads []Party      `json:"workloads,omitempty"` // that the lines name
}

// LedgerLine is a line: the edge as its proxy told it last, and what it takes
// to go on from there.
type LedgerLine struct {
	Edge     mesh.Edge `json:"edge"`
	Told     time.Time `json:"told"`     // its first, by the proxy's clock
	ToldLast time.Time `json:"toldLast"` // its last, likewise
	First    time.Time `json:"first"`
	Before   sums      `json:"before,omitzero"`
}

// Save the ledger. It shares nothing that changes with the Book.
func (b *Book) Save() *Ledger {
	out := &Ledger{Version: LedgerVersion, Since: b.since, Forgotten: b.forgotten}
	for _, node := range slices.Sorted(maps.Keys(b.proxies)) {
		lines := slices.SortedFunc(maps.Values(b.proxies[node].lines), func(x, y *line) int {
			return compareKeys(&x.edge.EdgeKey, &y.edge.EdgeKey)
		})
		for _, l := range lines {
			out.Lines = append(out.Lines, LedgerLine{Edge: l.edge, Told: l.told, ToldLast: l.toldLast, First: l.first, Before: l.before})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(b.known)) {
		out.Workloads = append(out.Workloads, b.known[key])
	}
	return out
}

// Load a saved ledger into an empty Book. What is too old or more than there is
// room for is left out, the newest lines first. An error means that nothing was
// loaded.
func (b *Book) Load(l *Ledger, now time.Time) error {
	if l.Version != LedgerVersion {
		return fmt.Errorf("truth: the ledger is of version %d and this program reads %d; move it away to begin a new one", l.Version, LedgerVersion)
	}
	if len(b.proxies) > 0 {
		return fmt.Errorf("truth: a ledger is loaded before the first report, and there are %d proxies", len(b.proxies))
	}
	now = now.Round(0).UTC()
	b.forgotten = l.Forgotten
	if b.since = l.Since; b.since.After(now) {
		b.since = now
	}
	lines := slices.Clone(l.Lines)
	slices.SortStableFunc(lines, func(x, y LedgerLine) int { return y.Edge.Last.Compare(x.Edge.Last) })
	for _, in := range lines {
		if !b.restore(in, now) {
			b.forgotten++
		}
	}
	for _, p := range l.Workloads {
		if p.Workload != "" && len(b.known) < b.limits.Edges {
			b.known[p.Workload] = p
		}
	}
	b.Prune(now)
	b.version++
	return nil
}

// restore one line; it reports false when there is no room for it.
func (b *Book) restore(in LedgerLine, now time.Time) bool {
	e := b.limits.edge(in.Edge)
	if e.Node == "" || !direction(e.Direction) || e.Last.After(now) && e.First.After(now) {
		return true // nothing that we wrote
	}
	p := b.proxies[e.Node]
	if p == nil {
		if len(b.proxies) >= b.limits.Proxies {
			return false
		}
		p = &proxy{Reporter: Reporter{Node: e.Node}, live: map[uint64]*row{}, lines: map[mesh.EdgeKey]*line{}}
		b.proxies[e.Node] = p
	}
	if p.lines[e.EdgeKey] != nil || len(p.lines) >= b.limits.EdgesOf || b.lines >= b.limits.Edges {
		return false
	}
	e.Open = 0 // whoever still talks will say so
	b.seq++
	ln := &line{seq: b.seq, edge: e, told: in.Told, toldLast: in.ToldLast, before: in.Before, changed: e.Last}
	if ln.first = in.First; ln.first.IsZero() || ln.first.After(e.First) {
		ln.first = e.First
	}
	if n := len(ln.before.Latency); n != len(mesh.LatencyBounds)+1 {
		ln.before.Latency = nil
	}
	if b.samples < b.limits.Samples {
		b.samples += ln.keep()
	}
	p.lines[e.EdgeKey] = ln
	b.lines++
	return true
}
