package truth

import (
	"cmp"
	"errors"
	"maps"
	"slices"
)

// roomForProxy lets go of the proxy that is longest gone.
func (b *Book) roomForProxy() error {
	if len(b.proxies) < b.limits.Proxies {
		return nil
	}
	var oldest *proxy
	for _, p := range b.proxies {
		if !p.Connected && (oldest == nil || cmp.Or(p.At.Compare(oldest.At), cmp.Compare(p.Node, oldest.Node)) < 0) {
			oldest = p
		}
	}
	if oldest == nil {
		return errors.New("truth: there is no room for another proxy that reports")
	}
	b.forgotten += uint64(len(oldest.lines))
	b.drop(oldest)
	return nil
}

// roomForRow makes room for one more row of a proxy, one that lives or has
// ended, or reports that there is none.
func (b *Book) roomForRow(p *proxy, lives bool) bool {
	if lives && len(p.live) >= b.limits.Live {
		return false
	}
	if b.rows < b.limits.Connections {
		return true
	}
	victim := b.greedier(p, b.limits.Connections, (*proxy).size)
	switch {
	case len(victim.recent) > 0:
		b.forgetOldest(victim)
	case victim == p:
		return false
	default:
		oldest := slices.MinFunc(slices.Collect(maps.Values(victim.live)), func(a, b *row) int { return a.Start.Compare(b.Start) })
		delete(victim.live, oldest.ID)
		victim.incomplete(victim.At)
		b.rows--
	}
	return true
}

// greedier is who gives way where all together have filled the limit: a proxy
// that has its share already does so itself, else the one that has most.
func (b *Book) greedier(p *proxy, limit int, size func(*proxy) int) *proxy {
	if size(p) >= limit/len(b.proxies) {
		return p
	}
	most := p
	for _, o := range b.proxies {
		if n, m := size(o), size(most); n > m || n == m && o.Node < most.Node {
			most = o
		}
	}
	return most
}

// roomForLine makes room for one more line of a proxy.
func (b *Book) roomForLine(p *proxy) {
	lines := func(p *proxy) int { return len(p.lines) }
	switch {
	case len(p.lines) >= b.limits.EdgesOf:
		b.forget(p)
	case b.lines >= b.limits.Edges:
		b.forget(b.greedier(p, b.limits.Edges, lines))
	}
}

// forget some lines of a proxy: those of mere addresses first, then those that
// did not move for longest. It takes several at once, since looking for them
// costs more than dropping them.
func (b *Book) forget(p *proxy) {
	p.Since = p.At
	lines := slices.Collect(maps.Values(p.lines))
	slices.SortFunc(lines, func(x, y *line) int {
		return cmp.Or(cmp.Compare(min(len(x.edge.Peer), 1), min(len(y.edge.Peer), 1)),
			x.edge.Last.Compare(y.edge.Last), cmp.Compare(x.seq, y.seq))
	})
	for _, l := range lines[:max(len(lines)/8, min(len(lines), 1))] {
		b.dropLine(p, l.edge.EdgeKey)
		b.forgotten++
	}
}
