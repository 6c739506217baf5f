package proxy

import (
	"net/netip"
	"time"

	"hasp/mesh"
)

// attempt is what is known of a connection to one endpoint. A client's
// connection may see several; the proxy at each endpoint has seen one, and has a
// row for it. So that the two ends tell the same, those that were left for
// another endpoint get rows of their own.
type attempt struct {
	facts     mesh.Connection
	hand      *hand
	helloSeen bool
}

// begin makes r an attempt at an endpoint, of which nothing is known yet; false
// when it was cut, and what is known is what is to be told of that.
func (r *row) begin(e *mesh.Endpoint) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		return false
	}
	r.revision.Add(1)
	r.hand, r.helloSeen, r.trunk = nil, false, nil
	f := r.facts.write(r.id)
	f.PeerWorkload, f.PeerIdentity, f.Local, f.Upstream = e.Workload, "", netip.AddrPort{}, netip.AddrPort{}
	f.TLS, f.Group, f.Cipher, f.ALPN, f.Resumed, f.Reused, f.HandshakeAt = "", "", "", "", false, 0, time.Time{}
	f.Failure = nil
	if e.Addr.IsValid() {
		f.Upstream = netip.AddrPortFrom(e.Addr.Unmap(), e.Port)
	}
	f.Trace = r.ownTrace(f)
	return true
}

// attempt is what r is about now.
func (r *row) attempt() attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return attempt{r.merged(), r.hand, r.helloSeen}
}

// goBack makes r about an attempt that came before.
func (r *row) goBack(a attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut { // meanwhile: that is what is to be told of it
		return
	}
	r.revision.Add(1)
	*r.facts.write(r.id), r.hand, r.helloSeen = a.facts, a.hand, a.helloSeen
}

// leave gives an attempt a row of its own, which has ended, if there was anybody
// at its other end.
func (p *Proxy) leave(a attempt, stage string, err error) {
	if !a.facts.Local.IsValid() {
		return
	}
	r := p.table.open(mesh.OutboundDir, nil, p.cfg.Now())
	if r == nil {
		return
	}
	r.set(func(f *mesh.Connection) {
		id := f.ID
		*f = a.facts
		f.ID = id
		f.Why = cutTo(err.Error()+"; left for another endpoint", maxSentence)
		r.hand, r.helloSeen = a.hand, a.helloSeen
	})
	r.meter.Received.Store(a.facts.Received)
	if a.facts.Failure == nil {
		p.fail(r, stage, err)
	}
	p.end(r)
}
