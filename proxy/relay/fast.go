package relay

import (
	"crypto/tls"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Fast is the relay of few system calls: an event loop for each processor reads
// and writes the sockets itself, and seals and opens the records of TLS 1.3 in
// place, in one buffer of its own. What a connection needs of memory while it is
// silent is its keys. Handshakes stay with crypto/tls, see [Socket.ForServer] and
// [Socket.ForClient]; connections that a loop cannot take, TLS 1.2 among them,
// are given to [Portable].
//
// While a peer does not take what is for it, at most one buffer of it, half a
// megabyte, is kept and nothing more is read. Plain bytes are copied too: splice(2)
// measured the same.
//
// Observers are called by a loop, which serves many connections: they must not
// wait for anything but a lock that is held shortly.
//
// The zero value is ready; loops start with the first connection. Close ends
// them. When both directions of a connection have ended in order its sides are
// closed already when done is called.
type Fast struct {
	mu     sync.Mutex
	loops  []*loop
	closed bool
	spares spares
	doze   time.Duration // tests shorten it; 0 is dozeAfter
}

// Start implements [Relayer].
func (f *Fast) Start(client, upstream *Side, m *Meter, o Observer, done func(error)) {
	for l := f.loop(); l != nil; l = f.loop() {
		p := f.take(l, client, upstream, m, o, done)
		if p == nil {
			break
		}
		if l.post(p) {
			return
		}
		p.leave() // the loop has ended meanwhile
		l.load.Add(-1)
	}
	if client.inBand || upstream.inBand { // which nobody else can do
		go done(&Error{Upstream: upstream.inBand, Op: "read", Err: errNotKept})
		return
	}
	Portable{}.Start(client, upstream, m, o, done)
}

// loop is the one with the fewest connections, nil when there is none.
func (f *Fast) loop() *loop {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.loops = slices.DeleteFunc(f.loops, (*loop).isOver)
	for n := len(f.loops); n < runtime.GOMAXPROCS(0); n++ {
		l, err := newLoop()
		if err != nil { // no descriptors are left; the others do
			break
		}
		if f.doze > 0 {
			l.dozer.after = f.doze
		}
		f.loops = append(f.loops, l)
		go l.run()
	}
	var least *loop
	for _, l := range f.loops {
		if !l.isClosed() && (least == nil || l.load.Load() < least.load.Load()) {
			least = l
		}
	}
	return least
}

// isClosed tells whether the loop takes nothing any more, isOver whether it has
// ended. One that met an error is followed by another.
func (l *loop) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

func (l *loop) isOver() bool {
	select {
	case <-l.over:
		return true
	default:
		return false
	}
}

// Close ends the loops, and with them the connections they still carry: their
// relays fail. Connections that are started afterwards are Portable's.
func (f *Fast) Close() {
	f.mu.Lock()
	loops := f.loops
	f.loops, f.closed = nil, true
	f.mu.Unlock()
	for _, l := range loops {
		l.stop()
	}
	for _, l := range loops {
		<-l.over
	}
	f.spares.close()
}

// take makes two sides a pair that a loop can serve; nil when it cannot. The
// sides are the loop's from then on.
func (f *Fast) take(l *loop, client, upstream *Side, m *Meter, o Observer, done func(error)) *pair {
	client.mu.Lock()
	defer client.mu.Unlock()
	upstream.mu.Lock()
	defer upstream.mu.Unlock()
	c, ok := client.descriptor(f)
	if !ok {
		return nil
	}
	u, ok := upstream.descriptor(f)
	if !ok {
		if client.left == nil {
			closeFD(c.fd, false)
		}
		return nil
	}
	defer f.spares.fill()
	p := newPair(l, [2]*Side{client, upstream}, [2]*left{c, u}, m, o, done)
	for _, s := range []*Side{client, upstream} {
		if s.tcp != nil {
			_ = s.tcp.Close() // what it stood for is open by another number
		}
		s.conn, s.tcp, s.sock, s.left, s.home, s.head, s.loop = nil, nil, nil, nil, nil, nil, p
	}
	return p
}

// descriptor is what a loop needs of a side. The side stays as it is. Callers
// hold mu.
func (s *Side) descriptor(f *Fast) (*left, bool) {
	if s.left != nil {
		return s.left, !s.left.broken
	}
	if s.conn == nil || s.ended.Load() {
		return nil, false
	}
	l := new(left)
	if !s.plain() && !s.keys(l) {
		return nil, false
	}
	fd, err := f.spares.duplicate(s.tcp)
	if err != nil {
		return nil, false
	}
	l.fd = fd
	return l, true
}

// keys takes the keys of a TLS side that nobody has read or written yet.
func (s *Side) keys(l *left) bool {
	conn, ok := s.conn.(*tls.Conn)
	if !ok || s.used || s.sock.secrets == nil {
		return false
	}
	state := conn.ConnectionState()
	if state.Version != tls.VersionTLS13 || len(s.sock.head) > fewSlots*slotSize {
		return false
	}
	var err error
	if l.in, l.out, err = s.sock.secrets.Keys(state.CipherSuite, s.sock.client); err != nil {
		return false
	}
	l.raw = s.sock.head
	return true
}
