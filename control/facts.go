package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/mesh"
	"hasp/truth"
	"hasp/world"
	"hasp/xds/server"
)

const (
	// saveEvery is how often the ledger is written at most, and how much of it a
	// control plane that is killed forgets.
	saveEvery = 10 * time.Second
	// pruneEvery is how often what is too old is looked for.
	pruneEvery = time.Minute
	day        = 24 * time.Hour
	// defaultLedgerDays is how long an edge is remembered after its last
	// connection.
	defaultLedgerDays = 30
)

var errUnread = errors.New("the control plane has not read the cluster yet")

// facts is the book of what proxies report, behind a lock.
type facts struct {
	mu      sync.Mutex
	direct  map[string]bool // nodes whose proxies report here themselves
	book    *truth.Book
	changed chan struct{} // closed and replaced whenever something changed
	// took is how long the newest snapshot took to make, of version made.
	took time.Duration
	made uint64
	// processes as in Config.
	processes map[netip.Addr]string
}

func newFacts(days int, processes map[netip.Addr]string) *facts {
	if days <= 0 {
		days = defaultLedgerDays
	}
	return &facts{book: truth.NewBook(truth.Limits{Days: days}), changed: make(chan struct{}), direct: map[string]bool{}, processes: processes}
}

// do something to the book, and tell whoever waits for news when there are some.
func (f *facts) do(act func(*truth.Book) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.book.Version()
	err := act(f.book)
	if f.book.Version() != before {
		f.wake()
	}
	return err
}

// wake whoever waits. The caller holds the lock.
func (f *facts) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// worldChanged wakes too: what the facts mean has changed.
func (f *facts) worldChanged(w *world.World) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.book.See(w, time.Now())
	f.wake()
}

// news is a channel that is closed when something changes, and the version of
// what is there already.
func (f *facts) news() (<-chan struct{}, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed, f.book.Version()
}

// at is a snapshot that nobody changes.
func (f *facts) at(generation uint64, now time.Time) *truth.Facts {
	f.mu.Lock()
	defer f.mu.Unlock()
	fresh, start := f.made != f.book.Version(), time.Now()
	facts := f.book.Facts(generation, now)
	facts.Processes = f.processes
	if fresh {
		f.made, f.took = f.book.Version(), time.Since(start)
	}
	return facts
}

// pace is how far apart the news are that one listener is told, who will ask for a
// snapshot of each: of a large mesh they are rarer, since there is always some.
func (f *facts) pace() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return min(max(eventPause, 20*f.took), heartbeat)
}

// Report takes what the proxy of the workload node says of itself. The proxy
// must show the workload's identity, as it must for its configuration; other
// control planes may speak for any.
func (c *Control) Report(node string, peer spiffeid.ID, r *mesh.Report) error {
	w, err := c.mayReport(node, peer)
	if err != nil {
		return err
	}
	own := *r
	own.Node, own.Identity = node, w.Workload(node).Identity(w.Mesh.TrustDomain)
	direct := !c.relays(peer)
	err = c.facts.do(func(b *truth.Book) error {
		if direct {
			c.facts.direct[node] = true
		}
		return b.Take(w, &own, time.Now())
	})
	if err == nil && direct && c.cfg.PassOn != nil {
		c.cfg.PassOn(&own)
	}
	return err
}

// Gone says that a proxy's reports have ended; what it said stays.
func (c *Control) Gone(node string) {
	direct := false
	_ = c.facts.do(func(b *truth.Book) error {
		direct = c.facts.direct[node]
		delete(c.facts.direct, node)
		b.Gone(node, time.Now())
		return nil
	})
	if direct && c.cfg.PassOn != nil {
		c.cfg.PassOn(&mesh.Report{Node: node, Gone: true})
	}
}

// ReportAnew has the proxies that report here begin anew, with all they know:
// another control plane wants to hear it.
func (c *Control) ReportAnew(ctx context.Context) { c.xds.ReportAnew(ctx) }

// relays is whether peer is another control plane.
func (c *Control) relays(peer spiffeid.ID) bool { return peer.String() == Identity(c.cfg.TrustDomain) }

// MayReport is whether peer may speak for the workload node at all.
func (c *Control) MayReport(node string, peer spiffeid.ID) error {
	_, err := c.mayReport(node, peer)
	return err
}

func (c *Control) mayReport(node string, peer spiffeid.ID) (*world.World, error) {
	w := c.World()
	if w == nil {
		return nil, errUnread
	}
	wl := w.Workload(node)
	switch {
	case wl == nil:
		return nil, fmt.Errorf("%w: there is no workload %s", server.ErrNotFound, node)
	case wl.Role == mesh.RoleNone:
		return nil, fmt.Errorf("%w: workload %s is outside the mesh (no sidecar)", server.ErrDenied, node)
	case peer.String() == Identity(w.Mesh.TrustDomain):
		return w, nil
	}
	if id := wl.Identity(w.Mesh.TrustDomain); id != peer.String() {
		return nil, fmt.Errorf("%w: %s may not report for %s, whose identity is %s", server.ErrDenied, peer, node, id)
	}
	return w, nil
}

// Facts of now, and the World they are about.
func (c *Control) Facts() (*world.World, *truth.Facts, error) {
	w := c.World()
	if w == nil {
		return nil, nil, errUnread
	}
	return w, c.acknowledged(c.facts.at(w.Generation, time.Now())), nil
}

// acknowledged are facts with the generation that each proxy connected here has
// in force. The proxy itself only knows the newest that it was sent, and what
// changes nothing for it is not sent.
func (c *Control) acknowledged(f *truth.Facts) *truth.Facts {
	out := *f // the slices of a snapshot are others' too
	out.Proxies = slices.Clone(f.Proxies)
	for _, p := range c.xds.Status() {
		i, found := slices.BinarySearchFunc(out.Proxies, p.Node, func(r truth.Reporter, node string) int { return strings.Compare(r.Node, node) })
		if found && p.Connected {
			out.Proxies[i].Generation = p.AckedGeneration
		}
	}
	return &out
}

// keepFacts forgets what is too old and saves the ledger, until ctx ends and
// once more then.
func (c *Control) keepFacts(ctx context.Context) error {
	prune, save := time.NewTicker(pruneEvery), time.NewTicker(saveEvery)
	defer prune.Stop()
	defer save.Stop()
	saver := saver{ledger: c.cfg.Ledger, log: c.cfg.Log}
	for {
		select {
		case <-ctx.Done():
			close(c.ended)
			saver.save(c.facts)
			return nil
		case <-prune.C:
			_ = c.facts.do(func(b *truth.Book) error { b.Prune(time.Now()); return nil })
		case <-save.C:
			saver.save(c.facts)
		}
	}
}
