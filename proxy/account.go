package proxy

import (
	"sync/atomic"
	"time"

	"hasp/mesh"
)

// account is what of a connection is in the ledger already. But for what is
// atomic the row's lock guards it.
type account struct {
	line atomic.Pointer[line] // nil until it is counted
	// The bytes that are in the line.
	sent, received atomic.Uint64
	// Requests of the connection, and how many of them failed.
	requests, errors atomic.Uint64
	// early are requests that ended before the connection was counted; there is
	// one at most, unless a client pipelines.
	early []exchange
	ended bool // and must not be counted any more
}

// failed tells whether a request was answered with 5xx, or not at all.
func (x exchange) failed() bool { return x.Code == 0 || x.Code >= 500 || x.Status.failed() }

// count enters a connection in the ledger as what it is now known to be. One
// that was counted as something else moves.
func (p *Proxy) count(r *row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.facts.read(r.id)
	p.countLocked(r, &f)
}

func (p *Proxy) countLocked(r *row, f *mesh.Connection) {
	a := &r.account
	if a.ended || p.ledger == nil {
		return
	}
	if l := a.line.Load(); l != nil {
		if l.edge.Security == f.Security { // of its key, which never changes
			return
		}
		p.uncount(r, l)
	}
	if !tellable(f) {
		return
	}
	l := p.ledger.begin(f)
	a.line.Store(l)
	for _, x := range a.early {
		p.ledger.exchange(l, x)
	}
	a.early = nil
}

// uncount takes a connection out of the ledger.
func (p *Proxy) uncount(r *row, l *line) {
	p.ledger.takeBack(l, r.account.sent.Swap(0), r.account.received.Swap(0))
	r.account.line.Store(nil)
}

// recount counts a connection that may have another peer than before.
func (p *Proxy) recount(r *row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.account.line.Load(); l != nil {
		p.uncount(r, l)
	}
	f := r.facts.read(r.id)
	p.countLocked(r, &f)
}

// bring has the ledger know of all bytes of a connection.
func (p *Proxy) bring(r *row) {
	a := &r.account
	if a.line.Load() == nil || r.meter.Sent.Load() == a.sent.Load() && r.meter.Received.Load() == a.received.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.bringLocked(r)
}

func (p *Proxy) bringLocked(r *row) {
	a := &r.account
	l := a.line.Load()
	if l == nil || a.ended {
		return
	}
	sent, received := r.meter.Sent.Load(), r.meter.Received.Load()
	// A difference may be below zero when a request is sent again (Proxy.again);
	// the sum comes out right all the same.
	p.ledger.move(l, sent-a.sent.Swap(sent), received-a.received.Swap(received), r.meter.LastSeen())
}

// closeAccount counts the end of a connection; f are its last facts.
func (p *Proxy) closeAccount(r *row, f *mesh.Connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.Security == mesh.Probed {
		if l := r.account.line.Load(); l != nil && r.account.requests.Load() == 0 {
			p.uncount(r, l)
		}
	} else {
		p.countLocked(r, f)
	}
	p.bringLocked(r)
	if l := r.account.line.Load(); l != nil {
		p.ledger.finish(l)
	}
	r.account.ended = true
}

// exchanged counts a request of a connection wherever requests are counted.
func (p *Proxy) exchanged(r *row, se *series, x exchange) {
	se.exchange(x)
	if p.ledger == nil {
		return
	}
	a := &r.account
	a.requests.Add(1)
	if x.failed() {
		a.errors.Add(1)
	}
	l := a.line.Load()
	if l == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if l = a.line.Load(); l == nil { // nor meanwhile
			if len(a.early) < maxPipelined {
				a.early = append(a.early, x)
			}
			return
		}
	}
	p.ledger.exchange(l, x)
}

// tellable tells whether a connection belongs in the ledger. Those of the
// kubelet do not: whoever reads it looks for no kubelet. Nor does a client that
// was there and said nothing, nor what the proxy refused for reasons of its own.
func tellable(f *mesh.Connection) bool {
	switch {
	case f.Security == mesh.Probed:
		return false
	case f.Security != mesh.Unknown:
		return true
	case f.Direction == mesh.OutboundDir:
		return f.Cluster != "" // the workload wanted it, and did not get it
	}
	return f.Failure != nil && f.Mode != "" // else nobody came to ask what the port wants
}

// silentFor is how long a connection in plaintext on which the client has said
// nothing may yet be a probe, or begin TLS of its own.
const silentFor = 5 * time.Second
