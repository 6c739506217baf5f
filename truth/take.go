package truth

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"hasp/mesh"
	"hasp/world"
)

// maxSkew is how far a proxy's clock may be from ours without its times being
// moved: a report takes a moment to come.
const maxSkew = time.Second

// taking is one report on its way into the Book.
type taking struct {
	b       *Book
	w       *world.World // may be nil
	p       *proxy
	r       *mesh.Report
	now     time.Time
	changed bool
}

// greet takes down what a report says about its proxy, and what becomes void
// with it.
func (t *taking) greet() {
	p, r := t.p, t.r
	was := p.Reporter
	if !p.start.Equal(r.Start) {
		t.b.settle(p) // another process: what the old one had ended with it
		p.start = r.Start
		p.Dropped, t.changed = 0, true
	}
	if r.Whole || was.At.IsZero() {
		p.void = map[uint64]bool{}
		for id := range p.live {
			p.void[id] = true
		}
		// What happened while nobody listened may be missing.
		p.incomplete(t.now)
	}
	if r.Dropped > p.Dropped {
		p.incomplete(t.now)
	}
	if !was.Connected || t.changed {
		p.Since = t.now
	}
	p.Identity, p.Connected, p.At, p.Generation, p.Dropped = r.Identity, true, t.now, r.Generation, r.Dropped
	p.Skew = 0
	if !r.At.IsZero() {
		p.Skew = r.At.Sub(t.now)
	}
	t.changed = t.changed || r.Whole || was.Connected != p.Connected || was.Generation != p.Generation || was.Dropped != p.Dropped
	if !t.b.know(t.w, p.Node) {
		t.b.known[p.Node] = newcomer(p.Node, p.Identity)
	}
}

// newcomer is a proxy's workload that the World does not have yet.
func newcomer(node, identity string) Party {
	_, namespace, _, _ := mesh.ParseIdentity(identity)
	return Party{Kind: KindWorkload, Workload: node, Namespace: namespace, Owner: node[len(namespace)+1:], Identity: identity, Meshed: true}
}

// part ends the rows that a whole report did not have any more, once all of it
// was told.
func (t *taking) part() {
	p := t.p
	if len(p.void) == 0 || len(t.r.Connections) >= mesh.ReportConnections {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(p.void)) {
		if r := p.live[id]; r != nil {
			r.End = r.LastSeen
			t.b.retire(p, r)
			t.changed = true
		}
	}
	p.void = nil
}

// clock is a time of the proxy's by our clock, not in the future, and not from
// before anything is remembered.
func (t *taking) clock(at time.Time) time.Time {
	if at.IsZero() {
		return at
	}
	if skew := t.p.Skew; skew > maxSkew || skew < -maxSkew {
		at = at.Add(-skew)
	}
	at = at.Round(0).UTC()
	if oldest := t.now.Add(-t.b.limits.retention()); at.Before(oldest) {
		return oldest
	}
	if at.After(t.now) {
		return t.now
	}
	return at
}

// edge takes one line.
func (t *taking) edge(e mesh.Edge) {
	if !direction(e.Direction) {
		return
	}
	said := told{first: e.First, last: e.Last, at: t.r.At}
	e = t.b.limits.edge(e)
	e.Node = t.p.Node
	t.name(&e.EdgeKey)
	e.First, e.Last = t.clock(e.First), t.clock(e.Last)
	if e.First.IsZero() {
		e.First = t.now
	}
	if e.Last.Before(e.First) {
		e.Last = e.First
	}
	if h := e.Handshake; h != nil {
		h.At, h.LocalIdentity = t.clock(h.At), t.p.Identity
	}
	said.e = e
	l := t.p.lines[e.EdgeKey]
	if l == nil {
		if e.Connections == 0 {
			return // all of it was taken back
		}
		t.b.roomForLine(t.p)
		t.b.seq++
		l = &line{seq: t.b.seq, edge: e, told: said.first, toldLast: said.last, toldAt: said.at, first: e.First, changed: t.now}
		t.p.lines[e.EdgeKey] = l
		t.b.lines++
		t.changed = true
		if t.now.Sub(e.First) > sampleEvery {
			t.sample(l) // it had its sums before we heard of it
		}
		return
	}
	if l.due() {
		t.sample(l)
	}
	if l.take(said) {
		l.changed = t.now
		t.changed = true
	}
	if l.sums().Connections == 0 {
		t.b.dropLine(t.p, e.EdgeKey)
	}
}

// sample keeps the state of a line, if there is room.
func (t *taking) sample(l *line) {
	if t.b.samples < t.b.limits.Samples || len(l.past) >= samplesOf {
		t.b.samples += l.keep()
	}
}

// name puts the peer right: a workload that there is or was, else whoever is
// at the address, else the address.
func (t *taking) name(k *mesh.EdgeKey) {
	if k.Peer != "" && t.b.know(t.w, k.Peer) {
		k.PeerNet = netip.Prefix{}
		return
	}
	k.Peer = ""
	if !k.PeerNet.IsValid() {
		k.PeerNet = netip.Prefix{}
		return
	}
	k.PeerNet = k.PeerNet.Masked()
	if !k.PeerNet.IsSingleIP() {
		return
	}
	if key := t.b.whoIs(k.PeerNet.Addr(), ""); key != "" {
		k.Peer, k.PeerNet = key, netip.Prefix{}
		t.b.know(t.w, key)
	}
}

// connection takes one row.
func (t *taking) connection(c mesh.Connection) {
	if !direction(c.Direction) {
		return
	}
	p := t.p
	c = t.b.limits.connection(c)
	c.Start, c.LastSeen, c.End = t.clock(c.Start), t.clock(c.LastSeen), t.clock(c.End)
	if c.LastSeen.Before(c.Start) {
		c.LastSeen = c.Start
	}
	if !c.End.IsZero() && c.End.Before(c.LastSeen) {
		c.End = c.LastSeen
	}
	c.LocalIdentity = p.Identity
	old := t.row(c.ID)
	if old != nil && old.ended {
		return // told before, and it cannot change any more
	}
	t.place(&c, old)
	if old == nil {
		if !t.b.roomForRow(p, c.End.IsZero()) {
			p.incomplete(t.now)
			return
		}
		t.b.rows++
	}
	t.changed = true
	r := &row{Connection: Connection{Node: p.Node, Connection: c}, start: p.start, ended: !c.End.IsZero()}
	p.live[c.ID] = r
	if r.ended {
		t.b.retire(p, r)
	}
}

// row is the one that an ID of this process has, if there is one. One that only
// seemed to have ended is taken from those that did.
func (t *taking) row(id uint64) *row {
	p := t.p
	delete(p.void, id)
	if r := p.live[id]; r != nil {
		return r
	}
	i := slices.IndexFunc(p.recent, func(r *row) bool { return r.ID == id && r.start.Equal(p.start) })
	if i < 0 {
		return nil
	}
	r := p.recent[i]
	if r.ended {
		return r
	}
	p.recent = slices.Delete(p.recent, i, i+1)
	return r
}

// place makes a row be about the proxy's workload, and its peer whoever is at
// the address. A name that was found before stands when the address is nobody's
// any more.
func (t *taking) place(c *mesh.Connection, old *row) {
	peer := c.Upstream
	if c.Direction == mesh.InboundDir {
		c.Destination = t.own(c.Destination)
		peer = c.Source
	} else {
		c.Source, c.Local = t.own(c.Source), t.own(c.Local)
	}
	c.PeerWorkload = t.b.whoIs(peer.Addr(), c.PeerWorkload)
	if c.PeerWorkload == "" && old != nil {
		c.PeerWorkload = old.PeerWorkload
	}
	if c.PeerWorkload != "" {
		t.b.know(t.w, c.PeerWorkload)
	}
}

// own is an address of the workload's: one that is not is replaced.
func (t *taking) own(a netip.AddrPort) netip.AddrPort {
	if !a.IsValid() || t.w == nil || a.Addr().IsLoopback() {
		return a
	}
	wl := t.w.Workload(t.p.Node)
	if wl == nil || len(wl.Addresses) == 0 {
		return a
	}
	if slices.ContainsFunc(wl.Addresses, func(o netip.Addr) bool { return o.Unmap() == a.Addr().Unmap() }) {
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	return netip.AddrPortFrom(wl.Addresses[0].Unmap(), a.Port())
}
