package truth

import (
	"cmp"
	"fmt"
	"maps"
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
	return &Book{limits: l, proxies: map[string]*proxy{}, known: map[string]Party{}, departed: map[string]*departed{}}
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
	p.incomplete(p.recent[0].End)
	p.recent = slices.Delete(p.recent, 0, 1)
}

// incomplete notes that a connection that was there at a time is missing.
func (p *proxy) incomplete(at time.Time) {
	if at.After(p.Complete) {
		p.Complete = at
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
				changed = true
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
