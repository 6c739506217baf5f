package truth

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"hasp/mesh"
)

// Version of the facts, without making them.
func (b *Book) Version() uint64 { return b.version }

// Facts as they are now. They share nothing that changes with the Book. The
// generation is that of the World.
func (b *Book) Facts(generation uint64, now time.Time) *Facts {
	if b.facts == nil || b.facts.Version != b.version {
		b.facts = b.collect()
	}
	f := *b.facts
	f.At, f.Generation, f.Since = now.Round(0).UTC(), generation, b.since
	if f.Since.IsZero() {
		f.Since = f.At
	}
	f.Proxies = b.reporters() // their At moves with every report
	return &f
}

func (b *Book) reporters() []Reporter {
	var out []Reporter
	for _, node := range slices.Sorted(maps.Keys(b.proxies)) {
		if p := b.proxies[node]; !p.At.IsZero() { // it has reported, and is not only of an old ledger
			out = append(out, p.Reporter)
		}
	}
	return out
}

func (b *Book) collect() *Facts {
	f := &Facts{Version: b.version, Forgotten: b.forgotten}
	var lines []*line
	for _, p := range b.proxies {
		for _, r := range p.live {
			f.Connections = append(f.Connections, r.Connection)
		}
		for _, r := range p.recent {
			f.Connections = append(f.Connections, r.Connection)
		}
		lines = slices.AppendSeq(lines, maps.Values(p.lines))
	}
	slices.SortFunc(f.Connections, func(x, y Connection) int {
		return cmp.Or(y.Start.Compare(x.Start), cmp.Compare(x.Node, y.Node), cmp.Compare(y.ID, x.ID))
	})
	slices.SortFunc(lines, func(x, y *line) int { return compareKeys(&x.edge.EdgeKey, &y.edge.EdgeKey) })
	for _, l := range lines {
		f.Edges = append(f.Edges, l.whole())
		f.history = append(f.history, history{l.changed, l.past})
	}
	for _, key := range slices.Sorted(maps.Keys(b.known)) {
		f.Workloads = append(f.Workloads, b.known[key])
	}
	return f
}

func compareKeys(a, b *mesh.EdgeKey) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Peer, b.Peer),
		comparePrefixes(a.PeerNet, b.PeerNet), cmp.Compare(a.PeerIdentity, b.PeerIdentity), cmp.Compare(a.Service, b.Service),
		cmp.Compare(a.Port, b.Port), cmp.Compare(a.Security, b.Security), compareBools(a.Allowed, b.Allowed))
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
