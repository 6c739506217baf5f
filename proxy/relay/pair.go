package relay

import (
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"hasp/proxy/relay/record"
)

// pair is a relay in a loop: two ends, and the flow of bytes from each to the
// other. Everything but asks is the loop's.
type pair struct {
	loop  *loop
	ends  [2]end // client, upstream
	flows [2]flow
	meter *Meter
	sees  Observer    // nil for none
	over  func(error) // the caller's done

	begun, dead bool
	again       bool // it is in loop.again
	// active is set by each thing it has to do, and taken back by each look for
	// pairs that are silent; dozes once one found it so.
	active, dozes bool
	queued        bool // it is in loop.queue, under the loop's lock

	mu   sync.Mutex
	asks []ask
	// released is set when what the observer held may pass.
	released bool
	asked    atomic.Bool // there are asks: nothing passes any more
}

// ask is a side to be ended from outside.
type ask struct {
	side  *Side
	reset bool
}

// end is one of the two sockets.
type end struct {
	pair *pair
	side *Side
	fd   int            // -1 once the socket is closed
	in   *record.Opener // nil for plain TCP, as is out
	out  *record.Sealer

	raw *[]byte // received, not opened yet

	upstream bool
	whole    bool // its stream must end with close_notify
	inBand   bool // or with a record without content
	kept     bool // which it did
	// What the socket was found ready for, until it turns out not to be.
	readable, writable bool
	hungUp             bool // its stream has ended: reading tells how
	urgent             bool // reading stops at urgent data, and there is more
	answer             bool // a key update is due to the peer
	shut               bool // our half is closed
}

func newPair(l *loop, sides [2]*Side, have [2]*left, m *Meter, o Observer, done func(error)) *pair {
	p := &pair{loop: l, meter: m, sees: o, over: done}
	for i, s := range sides {
		h := have[i]
		p.ends[i] = end{pair: p, side: s, fd: h.fd, in: h.in, out: h.out, raw: stash(h.raw), upstream: i == 1, whole: s.whole, inBand: s.inBand, writable: true}
		p.flows[i] = flow{pair: p, src: &p.ends[i], dst: &p.ends[1-i], waiting: s.head, end: h.end}
	}
	l.load.Add(1)
	return p
}

// ask notes that a side is to be ended. Callers hold the side's mu.
func (p *pair) ask(s *Side, reset bool) {
	p.mu.Lock()
	p.asked.Store(true)
	p.asks = append(p.asks, ask{s, reset})
	p.mu.Unlock()
	p.loop.post(p) // a loop that has ended has heard, or is about to leave the pair
}

// release lets pass what the observer held.
func (p *pair) release() {
	p.mu.Lock()
	p.released = true
	p.mu.Unlock()
	p.loop.post(p)
}

// attend does what a pair was asked for from outside of the loop.
func (p *pair) attend() {
	p.mu.Lock()
	asks, released := p.asks, p.released
	p.released = false
	if len(asks) > 0 {
		p.asks = asks[1:]
	}
	p.mu.Unlock()
	switch {
	case p.dead:
	case len(asks) > 0:
		e := &p.ends[0]
		if asks[0].side != e.side {
			e = &p.ends[1]
		}
		e.close(asks[0].reset)
		p.fail(e, "read", net.ErrClosed)
	case !p.begun:
		p.begin()
	case released:
		p.flows[0].letGo = nil
		p.pump()
	}
}

// begin registers the sockets. What waits already is moved at once; of the rest
// the kernel tells.
func (p *pair) begin() {
	p.begun = true
	for i := range p.ends {
		e := &p.ends[i]
		if err := p.loop.add(e); err != nil {
			p.fail(e, "read", err)
			return
		}
	}
	p.pump()
}

// pump moves what can be moved, both ways.
func (p *pair) pump() {
	defer p.guard()
	p.flows[0].pump()
	p.flows[1].pump()
}

// ready takes down what a socket is ready for, and goes on.
func (e *end) ready(events uint32) {
	defer e.pair.guard()
	const gone = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	if events&gone != 0 {
		e.hungUp = true
	}
	if events&unix.EPOLLPRI != 0 {
		e.urgent = true
	}
	if events&(unix.EPOLLIN|gone) != 0 {
		e.readable = true
		e.from().pump()
	}
	if !e.writable && events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e.writable = true
		e.to().pump()
	}
	if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 && e.from().over && !e.shut {
		// Nobody reads it any more, and a server that has nothing to say would not
		// be told.
		e.pair.fail(e, "write", syscall.ECONNRESET)
	}
}

// guard ends a pair whose observer panicked: a bug there is no reason for all the
// others to end.
func (p *pair) guard() {
	if v := recover(); v != nil {
		p.fail(&p.ends[0], "read", bug(v))
	}
}

// bug is the error of who panicked, which the caller has just recovered from.
func bug(v any) error {
	var at string
	callers := make([]uintptr, 16)
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers)])
	for f, more := frames.Next(); more; f, more = frames.Next() {
		if !strings.HasPrefix(f.Function, "runtime.") { // who panicked
			at = fmt.Sprintf(" at %s:%d", filepath.Base(f.File), f.Line)
			break
		}
	}
	return fmt.Errorf("a bug: panic: %v%s", v, at)
}

// from is the flow that this end is the source of.
func (e *end) from() *flow {
	if e.upstream {
		return &e.pair.flows[1]
	}
	return &e.pair.flows[0]
}

// to is the flow that goes to this end.
func (e *end) to() *flow {
	if e.upstream {
		return &e.pair.flows[0]
	}
	return &e.pair.flows[1]
}

// close closes the socket; its side is closed with it.
func (e *end) close(reset bool) {
	if e.fd < 0 {
		return
	}
	reset = reset || e.to().unsent != nil // half a stream must not look whole
	if !reset {
		e.say(record.CloseNotify)
	}
	e.forget()
	closeFD(e.fd, reset) // and epoll forgets it
	e.fd = -1
	if e.in != nil {
		e.in.Wipe()
		e.out.Wipe()
	}
	s := e.side
	s.mu.Lock()
	s.loop = nil
	s.mu.Unlock()
}

// forget takes the end out of the loop's map.
func (e *end) forget() {
	if e.pair.begun {
		e.pair.loop.ends[e.fd] = nil
	}
}

// leave gives the side what it needs to go on without a loop.
func (e *end) leave() {
	if e.fd < 0 {
		return
	}
	to := &left{fd: e.fd, in: e.in, out: e.out, end: e.from().end && e.in != nil && !e.kept}
	if e.raw != nil {
		to.raw = append([]byte(nil), *e.raw...)
	}
	to.broken = e.to().unsent != nil
	s := e.side
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loop, s.left = nil, to
	s.head = e.from().waiting
	if e.shut {
		s.ended.Store(true)
	}
	e.fd = -1
}

// finish ends a relay whose flows have both ended in order.
func (p *pair) finish() {
	for i := range p.ends {
		if e := &p.ends[i]; e.kept {
			e.keep()
		} else {
			e.close(false)
		}
	}
	p.end(nil)
	p.heed()
}

// keep leaves the side as one that can carry another stream.
func (e *end) keep() {
	e.pair.loop.remove(e)
	e.shut = false
	e.leave()
	e.side.mu.Lock()
	e.side.home = e.pair.loop
	e.side.mu.Unlock()
}

// fail ends a relay because of one end.
func (p *pair) fail(e *end, op string, err error) {
	if p.dead {
		return
	}
	p.leave()
	p.end(&Error{Upstream: e.upstream, Op: op, Err: err})
}

// leave gives the sockets back to their sides.
func (p *pair) leave() {
	for i := range p.ends {
		e := &p.ends[i]
		if e.fd >= 0 && p.begun {
			p.loop.remove(e)
		}
		e.leave()
	}
	p.heed()
}

// heed has the sides do what the pair was asked for too late.
func (p *pair) heed() {
	p.mu.Lock()
	asks := p.asks
	p.asks = nil
	p.mu.Unlock()
	if len(asks) > 0 {
		go func() { // the end in order may take a moment
			for _, a := range asks {
				if a.reset {
					a.side.Reset()
				} else {
					a.side.Close()
				}
			}
		}()
	}
}

// end says that the relay is over.
func (p *pair) end(err error) {
	p.dead = true
	p.wake()
	for i := range p.ends {
		p.ends[i].drop()
		p.flows[i].drop()
	}
	p.loop.load.Add(-1)
	go p.over(err)
}

// drop gives memory back.
func (e *end) drop() {
	unstash(e.raw)
	e.raw = nil
}
