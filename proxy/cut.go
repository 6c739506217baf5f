package proxy

import (
	"time"

	"hasp/mesh"
	"hasp/policy/authz"
)

// What a new configuration forbids ends, and nothing else. Whom it forbids is
// reset at once, whatever goes on: a peer that may not call any more, a
// destination that is closed, TCP, HTTP between two requests or in the middle of
// one. Only where the peer is welcome and merely speaks plaintext, since clients
// or servers were told to begin with mutual TLS, the HTTP responses that are
// due are still sent, for a short grace; no new request passes meanwhile. (A
// gateway's new requests have connections of their own, see upstreamPool.)
//
// Many resets are spread over most of a second, so that they do not stall what
// lives on. Each connection is judged once more when its turn comes: it may be
// another by then.

const (
	// cutAtOnce is how many connections are reset without a pause, cutPause how
	// long the pause is, cutWithin the time in which all are reset.
	cutAtOnce = 100
	cutPause  = 10 * time.Millisecond
	cutWithin = 700 * time.Millisecond
	// graceTick is how often connections in their grace are looked at.
	graceTick = 5 * time.Millisecond
)

// sweep asks every live connection again and returns how many are forbidden. It
// returns when they are cut, but for those in their grace. A connection that has
// not learned yet what it carries is left to settle, which reads the new
// settings.
func (p *Proxy) sweep(s *settings) int {
	var forbidden, finishing []*row
	until := time.Now().Add(p.cfg.CutGrace)
	for _, r := range p.table.rows() {
		f := r.snapshot()
		if f.Security == mesh.Unknown {
			r.hurry(s, p.cfg.HandshakeTimeout)
			continue
		}
		switch {
		case r.spared(s):
		case mayFinish(s, &f) && r.isFinishing(): // since a configuration before
		case mayFinish(s, &f) && r.finishUntil(until):
			finishing = append(finishing, r)
		default:
			forbidden = append(forbidden, r)
		}
	}
	cut := p.cutAll(s, forbidden)
	p.cutFinished(finishing)
	return cut + len(finishing)
}

// mayFinish tells whether a connection that is forbidden is so for what it
// speaks alone.
func mayFinish(s *settings, f *mesh.Connection) bool {
	switch {
	case f.Security != mesh.Plaintext && f.Security != mesh.SimpleTLS:
		return false
	case f.Direction == mesh.OutboundDir: // to a service; a gateway's has no other destination
		return !f.Destination.IsValid() || s.route(f.Destination) != nil
	}
	a := s.config.Inbound.Authorization
	return a.IsZero() || authz.Decide(a, authz.Caller{Source: f.Source.Addr(), Destination: f.Destination}).Allowed
}

// cutAll resets connections, if they are still forbidden, and returns how many
// were.
func (p *Proxy) cutAll(s *settings, rows []*row) (cut int) {
	batches := time.Duration(len(rows)/cutAtOnce + 1)
	pause := min(cutPause, cutWithin/batches)
	start := time.Now()
	for i, r := range rows {
		if i > 0 && i%cutAtOnce == 0 {
			due := pause * time.Duration(i/cutAtOnce)
			wait(p.ctx, due-time.Since(start)) // not at all when it is late
		}
		if p.cut(r, s, false) {
			cut++
		}
	}
	return cut
}

// cutFinished ends connections when their responses are sent, or when their
// grace is over, and comes back for the others.
func (p *Proxy) cutFinished(rows []*row) {
	s := p.settings.Load()
	var left []*row
	for _, r := range rows {
		switch until, done := r.finishing(); {
		case until.IsZero(): // ended, cut, or allowed again
		case done:
			p.cut(r, s, true)
		case time.Now().After(until):
			p.cut(r, s, false)
		default:
			left = append(left, r)
		}
	}
	if len(left) > 0 {
		time.AfterFunc(graceTick, func() { p.cutFinished(left) })
	}
}

// cut ends a connection if it is forbidden. In order means that the client gets
// what was sent to it.
func (p *Proxy) cut(r *row, s *settings, inOrder bool) bool {
	did := r.cutOff(s, inOrder)
	if did {
		p.metrics.cut.Inc()
	}
	return did
}

// spared tells whether a connection may live. One that may is as if it had never
// been in doubt, and its facts name what lets it live.
func (r *row) spared(s *settings) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.facts.read(r.id)
	v := decide(s, &f)
	if !v.Allow {
		return false
	}
	r.letGo()
	if r.settled && !r.cut && (f.Mode != v.Mode || f.Rule != v.Rule) {
		r.write(func(f *mesh.Connection) { f.Mode, f.Rule, f.Generation = v.Mode, v.Rule, s.config.Generation })
	}
	return true
}

// finishUntil has a connection finish the responses it owes; false means that it
// owes none.
func (r *row) finishUntil(until time.Time) bool {
	r.mu.Lock()
	w, pooled := r.watch, r.client == nil
	r.mu.Unlock()
	switch {
	case pooled:
		if r.carries.Load() == 0 {
			return false
		}
	case w == nil || !w.hold(r.meter.Sent.Load()):
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut || r.ended || r.watch != w {
		r.letGo()
		if w != nil {
			w.gate.open(true) // of a relay that is over
		}
		return false
	}
	r.finishBy = until
	return true
}

// finishing is until when a connection may finish its responses, zero when it is
// not about to, and whether it has.
func (r *row) finishing() (until time.Time, done bool) {
	r.mu.Lock()
	until, w, pooled := r.finishBy, r.watch, r.client == nil
	if r.ended || r.cut {
		until = time.Time{}
	}
	r.mu.Unlock()
	if pooled {
		return until, r.carries.Load() == 0
	}
	return until, w != nil && w.finished(r.meter.Sent.Load())
}

func (r *row) isFinishing() bool {
	until, _ := r.finishing()
	return !until.IsZero()
}

// letGo ends the time of finishing. Callers hold mu.
func (r *row) letGo() {
	r.finishBy = time.Time{}
	if r.watch != nil {
		r.watch.gate.open(r.cut)
	}
}

// cutOff ends a live connection if it is forbidden, and reports whether it did.
func (r *row) cutOff(s *settings, inOrder bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut || r.ended {
		return false
	}
	f := r.facts.read(r.id)
	v := decide(s, &f)
	if v.Allow || f.Security == mesh.Unknown { // it has another upstream now, which settle decides about
		r.letGo()
		return false
	}
	r.cut = true
	r.write(func(f *mesh.Connection) {
		f.Allowed = false
		f.Why = v.Why
		f.Mode, f.Rule, f.Generation = v.Mode, v.Rule, s.config.Generation
	})
	switch {
	case !inOrder:
	case r.sides[0] != nil:
		r.sides[0].Close()
	case r.client != nil:
		r.client.Close()
	}
	r.closeSockets(true)
	r.letGo()
	return true
}
