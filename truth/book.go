package truth

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hasp/mesh"
	"hasp/world"
)

// Book holds what the proxies of a mesh report, within [Limits]. What one proxy
// says is about itself: it cannot speak for another workload, nor take another
// proxy's room: whoever has more than its share of what is full gives way.
//
// It is not safe for concurrent use.
type Book struct {
	limits    Limits
	since     time.Time
	version   uint64
	forgotten uint64
	proxies   map[string]*proxy
	known     map[string]Party // workloads that lines name
	// How many of all proxies.
	rows, lines, samples int
	seq                  uint64 // of the newest line

	seen     *world.World // the newest one
	places   places       // of it
	departed map[string]*departed
	facts    *Facts // of this version
}

// proxy is one as a source of facts.
type proxy struct {
	Reporter
	start  time.Time // of its process, by its clock
	live   map[uint64]*row
	void   map[uint64]bool // of live, those that a whole report has not told again yet
	recent []*row          // the oldest first
	lines  map[mesh.EdgeKey]*line
}

// row is a connection. That the proxy told its end is not the same as having
// an end: one whose proxy left ends where it was last seen.
type row struct {
	Connection
	start time.Time // of the process whose ID it has
	ended bool      // told so
}

// NewBook is an empty one.
func NewBook(l Limits) *Book {
	l.withDefaults()
	return &Book{limits: l, proxies: map[string]*proxy{}, known: map[string]Party{}, departed: map[string]*departed{}, places: placesOf(nil)}
}

// Take a report. Its Node and Identity must be of the certificate that came
// with it. All else is the proxy's word, and is made to be about its workload:
// inbound it is the destination, outbound the source, and the other end is
// whoever the World says is at the address. An error means that nothing was
// taken. The World may be nil before there is one.
func (b *Book) Take(w *world.World, r *mesh.Report, now time.Time) error {
	if err := admissible(w, r); err != nil {
		return err
	}
	now = now.Round(0).UTC()
	p := b.proxies[r.Node]
	if p == nil {
		if err := b.roomForProxy(); err != nil {
			return err
		}
		p = &proxy{Reporter: Reporter{Node: r.Node}, live: map[uint64]*row{}, lines: map[mesh.EdgeKey]*line{}}
		b.proxies[r.Node] = p
	}
	if b.since.IsZero() {
		b.since = now
	}
	b.See(w, now)
	t := taking{b: b, w: w, p: p, r: r, now: now}
	t.greet()
	for i := range r.Edges {
		t.edge(r.Edges[i])
	}
	for i := range r.Connections {
		t.connection(r.Connections[i])
	}
	t.part()
	if t.changed {
		b.version++
	}
	return nil
}

// admissible: whoever reports may speak for the workload, as far as we know it.
func admissible(w *world.World, r *mesh.Report) error {
	namespace, name, ok := strings.Cut(r.Node, "/")
	if !ok || namespace == "" || name == "" || len(r.Node) > 512 {
		return fmt.Errorf("truth: a report of %q, which is no NAMESPACE/NAME", r.Node)
	}
	_, in, account, ok := mesh.ParseIdentity(r.Identity)
	if !ok || in != namespace {
		return fmt.Errorf("truth: %q reports for %s, of another namespace", r.Identity, r.Node)
	}
	if w == nil {
		return nil
	}
	if wl := w.Workload(r.Node); wl != nil && cmp.Or(wl.ServiceAccount, "default") != account {
		return fmt.Errorf("truth: %q reports for %s, whose account is %s", r.Identity, r.Node, cmp.Or(wl.ServiceAccount, "default"))
	}
	return nil
}

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

// drop a proxy and all that it said.
func (b *Book) drop(p *proxy) {
	b.rows -= p.size()
	for key := range p.lines {
		b.dropLine(p, key)
	}
	delete(b.proxies, p.Node)
}

func (b *Book) dropLine(p *proxy, key mesh.EdgeKey) {
	b.samples -= len(p.lines[key].past)
	b.lines--
	delete(p.lines, key)
}

func (p *proxy) size() int { return len(p.live) + len(p.recent) }

// Gone says that a proxy's stream of reports has ended. Its connections are
// taken to have ended when they were last seen; if it comes back it says anew
// which live.
func (b *Book) Gone(node string, now time.Time) {
	p := b.proxies[node]
	if p == nil || !p.Connected {
		return
	}
	p.Connected = false
	b.settle(p)
	b.version++
}

// settle ends what is known to live of a proxy.
func (b *Book) settle(p *proxy) {
	for _, id := range slices.Sorted(maps.Keys(p.live)) {
		r := p.live[id]
		r.End = r.LastSeen
		b.retire(p, r)
	}
	p.void = nil
	for _, l := range p.lines {
		l.edge.Open = 0
	}
}

// retire moves a row that lives to those that ended.
func (b *Book) retire(p *proxy, r *row) {
	delete(p.live, r.ID)
	if len(p.recent) >= b.limits.Recent {
		b.forgetOldest(p)
	}
	p.recent = append(p.recent, r)
}

// forgetOldest drops the row that ended first.
func (b *Book) forgetOldest(p *proxy) {
	b.rows--
	p.incomplete(p.recent[0].Start)
	p.recent = slices.Delete(p.recent, 0, 1)
}

// incomplete notes that a connection that began at a time is not there.
func (p *proxy) incomplete(began time.Time) {
	if !began.Before(p.Complete) {
		p.Complete = began.Add(1)
	}
}

// roomForRow makes room for one more row of a proxy, or reports that there is
// none.
func (b *Book) roomForRow(p *proxy) bool {
	if len(p.live) >= b.limits.Live {
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
		victim.incomplete(oldest.Start)
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

// Prune drops what is too old, and the proxies of which nothing is left.
func (b *Book) Prune(now time.Time) {
	from := now.Add(-b.limits.retention())
	changed := false
	named := map[string]bool{}
	for _, p := range b.proxies {
		for key, l := range p.lines {
			if l.edge.Open == 0 && l.edge.Last.Before(from) {
				b.dropLine(p, key)
				changed = true
				continue
			}
			named[key.Node], named[key.Peer] = true, true
		}
		p.recent = slices.DeleteFunc(p.recent, func(r *row) bool {
			old := r.End.Before(from)
			if old {
				b.rows--
			}
			return old
		})
		for _, r := range p.live {
			named[r.PeerWorkload] = true
		}
		for _, r := range p.recent {
			named[r.PeerWorkload] = true
		}
		if !p.Connected && p.size() == 0 && len(p.lines) == 0 {
			delete(b.proxies, p.Node)
			changed = true
		}
	}
	b.forgetDeparted(now)
	for key := range b.known {
		if !named[key] {
			delete(b.known, key)
		}
	}
	if from.After(b.since) && !b.since.IsZero() {
		b.since = from
	}
	if changed {
		b.version++
	}
}

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
