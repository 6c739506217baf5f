package proxy

import (
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
	live   map[uint64]*row
	recent []mesh.Connection // a ring, once full
	next   int               // where the ring goes on
}

func newTable(maxLive int) *table {
	return &table{max: maxLive, live: make(map[uint64]*row)}
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
	r := &row{client: c}
	r.facts = mesh.Connection{
		ID:        t.nextID,
		Direction: dir,
		Security:  mesh.Unknown,
		Start:     now,
		LastSeen:  now,
	}
	if c != nil {
		r.facts.Source = addrPort(c.RemoteAddr())
	}
	t.live[r.facts.ID] = r
	return r
}

// close ends a connection: its sockets are closed (reset, unless it ended in
// order) and its slot is given back. It is remembered if keep says so.
func (t *table) close(r *row, now time.Time, keep func(*mesh.Connection) bool) (facts mesh.Connection, kept bool) {
	facts = r.end(now)
	kept = keep(&facts)
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.live, facts.ID)
	if !kept {
		return facts, false
	}
	if len(t.recent) < recentRows {
		t.recent = append(t.recent, facts)
	} else {
		t.recent[t.next] = facts
		t.next = (t.next + 1) % recentRows
	}
	return facts, true
}

// rows are those that live, by ID.
func (t *table) rows() []*row {
	t.mu.Lock()
	out := make([]*row, 0, len(t.live))
	for _, r := range t.live {
		out = append(out, r)
	}
	t.mu.Unlock()
	slices.SortFunc(out, func(a, b *row) int { return int(a.facts.ID) - int(b.facts.ID) }) // ID never changes
	return out
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
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.recent {
		// The newest stands before next once the ring is full, else at the end.
		j := (t.next - 1 - i + 2*len(t.recent)) % len(t.recent)
		out = append(out, t.recent[j])
	}
	return out
}
