package proxy

import (
	"cmp"
	"net"
	"slices"
	"sync"
	"time"

	"hasp/mesh"
)

// recentRows is how many ended connections the table remembers.
const recentRows = 1024

// table is the connection table. A connection is in it from before anything is
// decided about it until it has ended, so that a change of policy meets every
// connection: either its row is swept, or it reads the new policy (settle).
type table struct {
	max int

	mu     sync.Mutex
	nextID uint64
	live   []*row            // row.slot is where each is
	recent []mesh.Connection // a ring, once full
	next   int               // where the ring goes on
}

func newTable(maxLive int) *table {
	return &table{max: maxLive}
}

// open enters a connection; c is the client's, nil when the proxy is the client
// itself. It returns nil when the table is full.
func (t *table) open(dir mesh.Direction, c *net.TCPConn, now time.Time) *row {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.live) >= t.max {
		return nil
	}
	t.nextID++
	r := &row{id: t.nextID, begun: now.UnixNano(), client: c}
	r.facts.open = &mesh.Connection{
		ID:        t.nextID,
		Direction: dir,
		Security:  mesh.Unknown,
		Start:     now,
		LastSeen:  now,
	}
	if c != nil {
		r.facts.open.Source = addrPort(c.RemoteAddr())
	}
	r.slot = int32(len(t.live))
	t.live = append(t.live, r)
	return r
}

// close takes a connection that has ended out of the table and remembers its
// facts if keep says so.
func (t *table) close(r *row, facts *mesh.Connection, keep bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := len(t.live) - 1
	t.live[r.slot] = t.live[last]
	t.live[r.slot].slot = r.slot
	t.live[last] = nil
	t.live = t.live[:last]
	switch {
	case !keep:
	case len(t.recent) < recentRows:
		t.recent = append(t.recent, *facts)
	default:
		t.recent[t.next] = *facts
		t.next = (t.next + 1) % recentRows
	}
}

// rows are those that live, by ID.
func (t *table) rows() []*row {
	out := t.appendRows(nil)
	slices.SortFunc(out, func(a, b *row) int { return cmp.Compare(a.id, b.id) })
	return out
}

// appendRows appends those that live, in no order.
func (t *table) appendRows(to []*row) []*row {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append(to, t.live...)
}

// size is how many live.
func (t *table) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.live)
}

// snapshot is the facts of all that live, then of recent ones, newest first.
func (t *table) snapshot() []mesh.Connection {
	rows := t.rows()
	out := make([]mesh.Connection, 0, len(rows)+recentRows)
	for _, r := range rows {
		out = append(out, r.snapshot())
	}
	return t.appendRecent(out)
}

// appendRecent appends those that ended, the newest first.
func (t *table) appendRecent(to []mesh.Connection) []mesh.Connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.recent {
		// The newest stands before next once the ring is full, else at the end.
		j := (t.next - 1 - i + 2*len(t.recent)) % len(t.recent)
		to = append(to, t.recent[j])
	}
	return to
}
