package proxy

import (
	"context"
	"fmt"
	"time"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// A connection on which nothing moves for the idle timeout ends, where there is one:
// in order, as if both of its peers had closed it. By default there is none: a pool
// of connections to a database may be silent over the weekend, and peers that are
// gone are noticed by TCP's keepalive, which both legs have. HTTP waits for its
// responses as long as it likes.
//
// No connection has a timer. All are looked at a few times within the timeout, so
// that one may live somewhat longer than that.

const (
	// idleLooks is how often a connection is looked at within the timeout, unless
	// that is more often or less often than these.
	idleLooks      = 4
	idleLeastPause = time.Second
	idleMostPause  = time.Minute
)

// idleTimeout is how long connections may be silent, 0 for ever.
func (p *Proxy) idleTimeout() time.Duration {
	if d := p.cfg.IdleTimeout; d != 0 {
		return max(d, 0)
	}
	return time.Duration(p.meshwide().IdleMillis) * time.Millisecond
}

// keepIdle ends idle connections until ctx does.
func (p *Proxy) keepIdle(ctx context.Context) {
	looked := time.Now()
	for {
		var due <-chan time.Time
		d := p.idleTimeout()
		if d > 0 { // since the last look: configurations may come all the time
			due = time.After(time.Until(looked.Add(min(max(d/idleLooks, idleLeastPause), idleMostPause))))
		}
		select {
		case <-ctx.Done():
			return
		case <-due:
			p.endIdle(p.cfg.Now(), d)
			looked = time.Now()
		case <-p.idleChanged: // there may be another timeout
		}
	}
}

// endIdle ends the connections on which nothing has moved for d.
func (p *Proxy) endIdle(now time.Time, d time.Duration) {
	for _, r := range p.table.appendRows(nil) {
		if r.idleFor(now) >= d {
			r.endIdle(d)
		}
	}
}

// idleFor is how long nothing has moved.
func (r *row) idleFor(now time.Time) time.Duration {
	seen := r.meter.LastSeen()
	if seen.IsZero() {
		return r.age(now)
	}
	return now.Sub(seen)
}

// endIdle ends a connection that a relay carries and no response is waited for on.
func (r *row) endIdle(d time.Duration) {
	r.mu.Lock()
	w := r.watch
	r.mu.Unlock()
	if w != nil && !w.finished(r.meter.Sent.Load()) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut || r.ended || r.sides == [2]*relay.Side{} {
		return
	}
	r.cut, r.orderly = true, true
	r.write(func(f *mesh.Connection) { f.Why = fmt.Sprintf("nothing was said for %s, the idle timeout", d) })
	r.letGo()
	// The side of another proxy first, while there is a relay that ends its stream:
	// a TLS connection that ends without a word is a broken one.
	peer, own := r.sides[1], r.sides[0]
	if r.facts.read(r.id).Direction == mesh.InboundDir {
		peer, own = own, peer
	}
	for _, s := range []*relay.Side{peer, own} {
		if s != nil {
			s.Close()
		}
	}
}
