package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hasp/mesh"
)

// maxGone bounds the proxies remembered that are not connected any more.
const maxGone = 1000

// ProxyStatus is what is known of one proxy.
type ProxyStatus struct {
	Node            string    `json:"node"` // NAMESPACE/NAME
	Identity        string    `json:"identity"`
	Connected       bool      `json:"connected"`
	ConnectedAt     time.Time `json:"connectedAt"`
	DisconnectedAt  time.Time `json:"disconnectedAt,omitzero"`
	SentGeneration  uint64    `json:"sentGeneration"`
	AckedGeneration uint64    `json:"ackedGeneration"`
	AckedAt         time.Time `json:"ackedAt,omitzero"`
	// Nack is the last refusal, nil once a later generation was accepted.
	Nack *Nack `json:"nack,omitempty"`
	// OnDemand: it is told only what it asked for, which is what is at as many
	// addresses of services, and as many peers, as these.
	OnDemand bool `json:"onDemand,omitempty"`
	Services int  `json:"services,omitempty"`
	Peers    int  `json:"peers,omitempty"`
	// Error says why the proxy could not be told the newest generation.
	Error string `json:"error,omitempty"`
}

// State is what became of a generation in the proxy, in words.
func (p ProxyStatus) State(generation uint64) string {
	switch {
	case !p.Connected:
		return "not connected"
	case p.Nack != nil && p.Nack.Generation >= p.AckedGeneration:
		return fmt.Sprintf("refused generation %d: %s", p.Nack.Generation, p.Nack.Message)
	case p.AckedGeneration < generation:
		return "behind"
	}
	return "up to date"
}

// Told is how much of the mesh the proxy is told, in words.
func (p ProxyStatus) Told() string {
	if !p.OnDemand {
		return "all"
	}
	return fmt.Sprintf("%d addresses, %d peers", p.Services, p.Peers)
}

// Nack is a proxy's refusal of a configuration.
type Nack struct {
	TypeURL    string    `json:"typeURL"`
	Message    string    `json:"message"`
	Generation uint64    `json:"generation"`
	At         time.Time `json:"at"`
}

// entry is one stream's place in the registry. When a proxy connects again
// before its old stream ended, the old entry is no longer the node's, and what
// the old stream reports is lost.
type entry struct{ status ProxyStatus }

type registry struct {
	now    func() time.Time
	pushes atomic.Uint64

	mu      sync.Mutex
	nodes   map[string]*entry
	changed chan struct{} // closed and replaced at each change
	tally
}

func newRegistry(now func() time.Time) *registry {
	return &registry{now: now, nodes: map[string]*entry{}, changed: make(chan struct{}), tally: tally{having: map[uint64]int{}}}
}

// Status of all proxies, connected or not, by node.
func (s *Server) Status() []ProxyStatus {
	r := s.proxies
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]ProxyStatus, 0, len(r.nodes))
	for _, e := range r.nodes {
		out = append(out, e.status)
	}
	slices.SortFunc(out, func(a, b ProxyStatus) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

// Pushes is how many configurations were sent to proxies.
func (s *Server) Pushes() uint64 { return s.proxies.pushes.Load() }

// Changed is closed at the next change of the Status. Ask for the channel
// before reading the status.
func (s *Server) Changed() <-chan struct{} {
	s.proxies.mu.Lock()
	defer s.proxies.mu.Unlock()
	return s.proxies.changed
}

// Forget drops a proxy that is not connected.
func (s *Server) Forget(node string) {
	r := s.proxies
	r.mu.Lock()
	e := r.nodes[node]
	r.mu.Unlock()
	if e != nil {
		r.update(e, func() {
			if !e.status.Connected && r.nodes[node] == e {
				delete(r.nodes, node)
			}
		})
	}
}

// WaitAcked blocks until the given nodes have acknowledged the generation; with
// no nodes given, those that are connected (whoever disconnects meanwhile is
// not waited for). A proxy that refuses it, or that cannot be told, is an error
// at once.
func (s *Server) WaitAcked(ctx context.Context, generation uint64, nodes ...string) error {
	for {
		changed := s.Changed()
		// Where all is well a count says enough; of whom there are many.
		if late, troubled := s.Late(generation); len(nodes) == 0 && !troubled {
			if late == 0 {
				return nil
			}
			select {
			case <-changed:
				continue
			case <-ctx.Done():
			}
		}
		missing, err := s.proxies.missing(generation, nodes)
		if err != nil || missing == "" {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("xds/server: generation %d is not acknowledged by %s: %w", generation, missing, ctx.Err())
		}
	}
}

// missing is one node that has not acknowledged the generation.
func (r *registry) missing(generation uint64, nodes []string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(nodes) == 0 {
		for node, e := range r.nodes {
			if e.status.Connected {
				nodes = append(nodes, node)
			}
		}
		slices.Sort(nodes)
	}
	missing := ""
	for _, node := range nodes {
		e := r.nodes[node]
		if e != nil && e.status.AckedGeneration >= generation {
			continue
		}
		if missing == "" {
			missing = node
		}
		if e == nil {
			continue
		}
		if n := e.status.Nack; n != nil && n.Generation >= generation {
			return "", fmt.Errorf("xds/server: %s refused generation %d: %s", node, n.Generation, n.Message)
		}
		if e.status.Error != "" {
			return "", fmt.Errorf("xds/server: %s cannot be told: %s", node, e.status.Error)
		}
	}
	return missing, nil
}

// update runs f, which changes e, under the lock and announces a change.
func (r *registry) update(e *entry, f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count(e, -1)
	f()
	r.count(e, 1)
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *registry) connect(node, identity string) *entry {
	e := &entry{ProxyStatus{Node: node, Identity: identity, Connected: true, ConnectedAt: r.now()}}
	r.update(e, func() {
		if old := r.nodes[node]; old != nil {
			r.count(old, -1)
			e.status.AckedGeneration, e.status.AckedAt, e.status.Nack = old.status.AckedGeneration, old.status.AckedAt, old.status.Nack
		}
		r.nodes[node] = e
	})
	return e
}

func (r *registry) disconnect(e *entry) {
	r.update(e, func() {
		e.status.Connected, e.status.DisconnectedAt = false, r.now()
	})
	r.forgetOldest()
}

// forgetOldest keeps the bound.
func (r *registry) forgetOldest() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone <= maxGone {
		return
	}
	var oldest *entry
	for _, e := range r.nodes {
		if !e.status.Connected && (oldest == nil || e.status.DisconnectedAt.Before(oldest.status.DisconnectedAt)) {
			oldest = e
		}
	}
	r.count(oldest, -1)
	delete(r.nodes, oldest.status.Node)
}

func (r *registry) sent(e *entry, generation uint64) {
	r.pushes.Add(1)
	r.update(e, func() { e.status.SentGeneration, e.status.Error = generation, "" })
}

// passed is sent, and acknowledged too, of a generation that has nothing new for a
// proxy that has answered everything.
func (r *registry) passed(e *entry, generation uint64) {
	r.update(e, func() {
		e.status.SentGeneration, e.status.Error = generation, ""
		if e.status.Nack == nil {
			e.status.AckedGeneration, e.status.AckedAt = generation, r.now()
		}
	})
}

// told is by what the proxy was told what it was.
func (r *registry) told(e *entry, onDemand bool, d mesh.Demand) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.status.OnDemand, e.status.Services, e.status.Peers = onDemand, 0, 0
	if onDemand {
		e.status.Services, e.status.Peers = len(d.Services), len(d.Peers)
	}
}

func (r *registry) failed(e *entry, err error) {
	r.update(e, func() { e.status.Error = err.Error() })
}

func (r *registry) nack(e *entry, kind, message string, generation uint64) {
	r.update(e, func() { e.status.Nack = &Nack{kind, message, generation, r.now()} })
}

// acked: answered says that the proxy itself accepted something of it. Without
// that, a proxy that refused something keeps refusing.
func (r *registry) acked(e *entry, generation uint64, answered bool) {
	r.mu.Lock()
	same := e.status.AckedGeneration == generation && e.status.Nack == nil || e.status.Nack != nil && !answered
	r.mu.Unlock()
	if same {
		return
	}
	r.update(e, func() { e.status.AckedGeneration, e.status.AckedAt, e.status.Nack = generation, r.now(), nil })
}
