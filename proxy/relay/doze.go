package relay

import (
	"sync/atomic"
	"time"
)

// dozeAfter is how long a pair must have said nothing, at least, for its ciphers
// to be given back: they are more than half of the memory of a relay that is
// silent, and are made again, in a few microseconds, from the secrets.
const dozeAfter = 2 * time.Second

// dozer is what a loop has to find the pairs that are silent. While all of them
// doze there is no timer.
type dozer struct {
	after time.Duration // tests shorten it
	timer *time.Timer
	armed bool
	pairs atomic.Int32 // that doze
}

// stir notes that a pair has something to do.
func (p *pair) stir() {
	p.active = true
	p.wake()
	l := p.loop
	switch {
	case l.dozer.armed:
		return
	case l.dozer.timer == nil:
		l.dozer.timer = time.AfterFunc(l.dozer.after, l.tire)
	default:
		l.dozer.timer.Reset(l.dozer.after)
	}
	l.dozer.armed = true
}

// tire has the loop look for pairs that are silent.
func (l *loop) tire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.tired = true
		l.ring()
	}
}

// sweep sends to sleep the pairs that had nothing to do since the last time.
func (l *loop) sweep() {
	awake := false
	for _, e := range l.ends {
		switch {
		case e == nil, e.upstream, e.pair.dozes:
		case e.pair.active:
			e.pair.active, awake = false, true
		default:
			e.pair.doze()
		}
	}
	l.relieve()
	awake = awake || l.large // which is given back the next time
	l.dozer.armed = awake
	if awake {
		l.dozer.timer.Reset(l.dozer.after)
	}
}

func (p *pair) doze() {
	p.dozes = true
	p.loop.dozer.pairs.Add(1)
	for i := range p.ends {
		if e := &p.ends[i]; e.in != nil {
			e.in.Doze()
			e.out.Doze()
		}
	}
}

// wake notes that a pair dozes no more. Its ciphers come when they are needed.
func (p *pair) wake() {
	if p.dozes {
		p.dozes = false
		p.loop.dozer.pairs.Add(-1)
	}
}
