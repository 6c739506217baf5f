package relay

import (
	"bytes"
	"crypto/fips140"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"hasp/proxy/relay/record"
)

// Keeper is a [Relayer] that can leave a TLS connection open when a stream on it
// has ended, so that it carries another ([Side.InBand]).
type Keeper interface {
	Keeps() bool
}

// Keeps implements [Keeper].
func (*Fast) Keeps() bool { return !fips140.Enabled() } // package record leaves these to crypto/tls

// maxBetween is how long a record between two streams may be.
const maxBetween = 256

var (
	errNotKept = errors.New("the connection was not kept")
	errBetween = errors.New("between two streams came what belongs into none")
)

// InBand says, before a relay, that streams on the side end by a record without
// content and not with the connection. The peer must have agreed to it, and only
// [Fast] can do it.
func (s *Side) InBand() { s.inBand = true }

// Kept tells, after a relay that ended in order, whether the side can carry
// another stream. It must be closed in the end, as others are by the relay.
func (s *Side) Kept() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.home != nil && s.left != nil
}

// Send sends one record between two streams, whole or not at all.
func (s *Side) Send(p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.home == nil || s.left == nil || len(p) > maxBetween {
		return errNotKept
	}
	return s.left.send(p)
}

// Next has woke called once, in a goroutine of its own, with what the next record
// between two streams says, or with how the connection ended. A side that is
// closed before says nothing more.
func (s *Side) Next(woke func(p []byte, err error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.home == nil || s.left == nil {
		go woke(nil, errNotKept)
		return
	}
	if p, err := s.left.next(); p != nil || err != nil { // it came with what was before
		go woke(p, err)
		return
	}
	r := &rest{side: s, woke: woke}
	s.rest = r
	if err := s.home.lay(s.left.fd, r); err != nil {
		s.rest = nil
		go woke(nil, err)
	}
}

// wake ends a rest without a word. Callers hold mu.
func (s *Side) wake() {
	if s.rest != nil {
		s.home.lift(s.left.fd)
		s.rest = nil
	}
}

// rest is a side between two streams, whose loop looks out for the next record.
type rest struct {
	side *Side
	woke func([]byte, error)
}

// ready reads what has come, which the loop has room for in b.
func (r *rest) ready(b []byte) {
	s := r.side
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rest != r { // meanwhile it was closed, or is another's turn
		return
	}
	// All that there is, since the loop may wait for news next.
	for more := true; more; {
		n, errno := readFD(s.left.fd, b[:2*maxBetween])
		var p []byte
		var err error
		switch {
		case errno == syscall.EAGAIN:
			return
		case errno != 0:
			err = os.NewSyscallError("read", errno)
		case n == 0:
			err = io.EOF
		default:
			s.left.raw = append(s.left.raw, b[:n]...)
			p, err = s.left.next()
		}
		if p != nil || err != nil {
			s.wake()
			go r.woke(p, err)
			return
		}
		more = n == 2*maxBetween
	}
}

// next opens the next record that says something, if it has come.
func (l *left) next() ([]byte, error) {
	for whole(l.raw) {
		size, err := record.Size(l.raw)
		if err != nil {
			return nil, err
		}
		p, typ, err := l.in.Open(l.raw[:size])
		if err != nil {
			return nil, err
		}
		said := bytes.Clone(p)
		l.raw = append([]byte(nil), l.raw[size:]...)
		switch {
		case typ == record.TypeAlert:
			if err := toldBy(said); err != nil {
				return nil, err
			}
		case typ == record.TypeHandshake:
			answer, err := l.in.Handshake(said)
			if err != nil {
				return nil, err
			}
			if answer {
				if err := l.update(); err != nil {
					return nil, err
				}
			}
		case len(said) == 0 || len(said) > maxBetween:
			return nil, errBetween
		default:
			return said, nil
		}
	}
	if len(l.raw) > maxBetween+record.Overhead {
		return nil, errBetween // a record as long as that begins no stream
	}
	return nil, nil
}

// send seals and writes one record.
func (l *left) send(p []byte) error {
	var b [maxBetween + record.Overhead]byte
	copy(b[record.HeaderLen:], p)
	n, err := l.out.Seal(b[:], len(p), record.TypeApplicationData)
	if err != nil {
		return err
	}
	return l.write(b[:n])
}

func (l *left) update() error {
	var b [record.UpdateSize]byte
	n, err := l.out.Update(b[:], false)
	if err != nil {
		return err
	}
	return l.write(b[:n])
}

// write takes a socket that has no room for so little for broken.
func (l *left) write(b []byte) error {
	n, errno := writeFD(l.fd, b)
	switch {
	case errno != 0:
		return os.NewSyscallError("write", errno)
	case n < len(b):
		return io.ErrShortWrite
	}
	return nil
}

// lay has the loop look out for what comes on a socket.
func (l *loop) lay(fd int, r *rest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	if err := l.watch(fd, unix.EPOLLIN|unix.EPOLLRDHUP); err != nil {
		return err
	}
	if l.rests == nil {
		l.rests = make(map[int]*rest)
	}
	l.rests[fd] = r
	return nil
}

// lift undoes lay, before the socket is closed.
func (l *loop) lift(fd int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rests[fd] == nil { // the loop has ended
		return
	}
	delete(l.rests, fd)
	_ = unix.EpollCtl(l.ep, unix.EPOLL_CTL_DEL, fd, nil)
}

// stir looks at a socket that no pair has.
func (l *loop) stir(fd int) {
	l.mu.Lock()
	r := l.rests[fd]
	l.mu.Unlock()
	if r != nil {
		r.ready(l.buf)
	}
}

// wakeAll tells all who rest that the loop has ended.
func (l *loop) wakeAll() {
	l.mu.Lock()
	rests := l.rests
	l.rests = nil
	l.mu.Unlock()
	for _, r := range rests {
		s := r.side
		s.mu.Lock()
		if s.rest == r {
			s.rest = nil
			go r.woke(nil, net.ErrClosed)
		}
		s.mu.Unlock()
	}
}
