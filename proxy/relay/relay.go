// Package relay moves bytes between the two connections of a proxy: the one it
// accepted and the one it dialled. It knows nothing of policy.
//
// Wrap each connection in a [Side] ([TCP], [TLS]) and hand both to a [Relayer],
// which says when both directions have ended. [Fast] is an event loop for each
// processor that seals and opens the records of TLS 1.3 itself; [Portable] is two
// goroutines a connection and crypto/tls, the reference for what a relay does, and
// what Fast hands connections to that it cannot take. The tests run with both.
//
// A [Keeper], which Fast is, can leave a TLS connection to the next stream when one
// has ended: [Side.InBand] before the relay, [Side.Kept] after it, and [Side.Send]
// and [Side.Next] between two streams.
package relay

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"time"
)

// Relayer moves bytes both ways between client (the side that opened the
// connection) and upstream until both have ended. Start returns at once and has
// done called once, in a goroutine of its own.
//
// End of stream travels as a half-close, TLS close_notify and TCP FIN turning
// into each other. A nil error means that both directions ended in order; the
// caller then closes both sides. Otherwise the error is an [*Error] that names
// the side that broke first, nothing more will be moved, and the caller ends
// both sides, as a rule with [Side.Reset], so that a reset travels on as a
// reset. Closing or resetting a side from elsewhere ends the relay at once.
type Relayer interface {
	Start(client, upstream *Side, m *Meter, o Observer, done func(error))
}

// Observer sees the bytes on their way. The calls for one direction come in
// order and never at the same time, those for the two directions may. An
// observer must not change or keep p, and must be quick.
type Observer interface {
	// FromClient returns nil when p may pass on. Otherwise p waits until the
	// channel is closed, and is then shown again; no more is read meanwhile.
	FromClient(p []byte) (hold <-chan struct{})
	FromUpstream(p []byte)
	// Finished is true once the observer wants no more bytes; they may then
	// travel without coming into the process. It is asked from both directions.
	Finished() bool
}

// Ender is an [Observer] that is asked when the upstream's stream has ended in
// order. An error makes that a broken connection: the end does not travel on.
type Ender interface {
	UpstreamEnded() error
}

// Meter counts while the relay runs; it may be read at any time.
type Meter struct {
	Received atomic.Uint64 // bytes from the client
	Sent     atomic.Uint64 // bytes to the client
	lastSeen atomic.Int64  // Unix nanoseconds
}

// Touch notes that bytes came at t.
func (m *Meter) Touch(t time.Time) { m.lastSeen.Store(t.UnixNano()) }

// LastSeen is when a byte last arrived from either side; zero before the first.
func (m *Meter) LastSeen() time.Time {
	n := m.lastSeen.Load()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// Error says which side of a relay broke, and how.
type Error struct {
	Upstream bool   // the upstream side broke, else the client side
	Op       string // "read" or "write"
	Err      error
}

func (e *Error) Error() string {
	side := "client"
	if e.Upstream {
		side = "upstream"
	}
	return fmt.Sprintf("%s %s: %v", e.Op, side, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Portable is the relay of two goroutines a connection. It holds no large
// buffer for a plain TCP side that is silent, and a small one for a TLS side.
type Portable struct{}

// Start implements [Relayer].
func (Portable) Start(client, upstream *Side, m *Meter, o Observer, done func(error)) {
	go func() { done(relay(client, upstream, m, o)) }()
}

func relay(client, upstream *Side, m *Meter, o Observer) error {
	for i, s := range []*Side{client, upstream} {
		if _, err := s.open(); err != nil {
			return &Error{Upstream: i == 1, Op: "read", Err: err}
		}
	}
	up := &direction{src: client, dst: upstream, count: &m.Received, seen: &m.lastSeen}
	down := &direction{src: upstream, dst: client, fromUpstream: true, count: &m.Sent, seen: &m.lastSeen}
	if o != nil {
		up.observe = func(p []byte) {
			for hold := o.FromClient(p); hold != nil; hold = o.FromClient(p) {
				<-hold
			}
		}
		down.observe = o.FromUpstream
		up.finished, down.finished = o.Finished, o.Finished
		if e, ok := o.(Ender); ok {
			down.ended = e.UpstreamEnded
		}
	}
	var first atomic.Pointer[Error]
	run := func(d *direction) {
		if err := d.guarded(); err != nil && first.CompareAndSwap(nil, err) {
			// The other direction is waiting for a peer that may never speak
			// again. A deadline in the past wakes it and leaves the sockets
			// open, so that the caller may still say something to the client.
			client.interrupt()
			upstream.interrupt()
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(down)
	}()
	run(up)
	<-done
	if err := first.Load(); err != nil {
		return err
	}
	return nil
}

// direction is one of the two streams of a relay.
type direction struct {
	src, dst     *Side
	fromUpstream bool
	count        *atomic.Uint64
	seen         *atomic.Int64
	observe      func([]byte) // nil without an observer, as is finished
	finished     func() bool
	ended        func() error // nil where nobody asks
}

// guarded is run, for which a panic of the observer is an error of this
// connection alone.
func (d *direction) guarded() (err *Error) {
	defer func() {
		if v := recover(); v != nil {
			err = &Error{Op: "read", Err: bug(v)}
		}
	}()
	return d.run()
}

func (d *direction) run() *Error {
	r := d.src.reader()
	defer r.release()
	for {
		p, err := r.next()
		if len(p) > 0 {
			d.seen.Store(time.Now().UnixNano())
			if d.observe != nil {
				d.observe(p)
			}
			if _, err := d.dst.conn.Write(p); err != nil {
				return &Error{Upstream: !d.fromUpstream, Op: "write", Err: err}
			}
			d.count.Add(uint64(len(p)))
		}
		if err == nil && len(p) == bufferSize && d.mayBypass() {
			err = d.bypass()
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			if err := d.inOrder(); err != nil {
				return &Error{Upstream: d.fromUpstream, Op: "read", Err: err}
			}
			// A failure here means that dst is broken, and then the direction
			// that reads from dst says so, or has ended in order before and
			// nobody misses this end.
			_ = d.dst.CloseWrite()
			return nil
		default:
			return &Error{Upstream: d.fromUpstream, Op: "read", Err: err}
		}
	}
}

// inOrder is nil when the end of the source's stream is one.
func (d *direction) inOrder() error {
	if d.src.wasReset() {
		return syscall.ECONNRESET
	}
	if d.ended != nil {
		return d.ended()
	}
	return nil
}
