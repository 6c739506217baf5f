package relay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Side is one of the two connections of a relay: plain TCP, or TLS over it.
type Side struct {
	// mu guards who has the socket: conn and tcp, or a loop of Fast, or, after
	// that, left; nobody once it is closed.
	mu   sync.Mutex
	conn net.Conn // what is read and written: tcp, or TLS over it
	tcp  *net.TCPConn
	loop *pair
	left *left
	// home is the loop that left it, when it can carry another stream, and rest
	// what waits for that there.
	home *loop
	rest *rest

	head []byte // bytes that were read already, to be read again
	// sock is the socket below TLS, or nil; with whole its end must be announced.
	sock   *Socket
	whole  bool
	used   bool        // TLS was read or written, or may have been
	ended  atomic.Bool // CloseWrite was called
	inBand bool        // streams on it end by a record (InBand)
}

// TCP is a plain side. head, which may be nil, is what was read from c already;
// the relay moves it first.
func TCP(c *net.TCPConn, head []byte) *Side {
	return &Side{conn: c, tcp: c, head: head}
}

// TLS is a side whose handshake over s is complete. With wholeEnd a stream that
// ends without close_notify is a broken connection, since somebody on the way
// may have cut it short (RFC 8446, section 6.1); crypto/tls alone lets it pass.
func TLS(c *tls.Conn, s *Socket, wholeEnd bool) *Side {
	s.records = false
	return &Side{conn: c, tcp: s.TCPConn, sock: s, whole: wholeEnd}
}

// Again is the side for another relay, after one that failed: the first bytes of
// it are p, which were read before.
func (s *Side) Again(p []byte) *Side {
	s.head = append(p[:len(p):len(p)], s.head...) // what nobody has seen yet comes after p
	return s
}

// Read reads what the peer sent, the head first.
func (s *Side) Read(p []byte) (int, error) {
	if len(s.head) > 0 {
		n := copy(p, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	c, err := s.open()
	if err != nil {
		return 0, err
	}
	return c.Read(p)
}

// Write sends to the peer.
func (s *Side) Write(p []byte) (int, error) {
	c, err := s.open()
	if err != nil {
		return 0, err
	}
	return c.Write(p)
}

// Conn is the connection itself, for who does not relay it.
func (s *Side) Conn() net.Conn {
	s.used = true
	return s.conn
}

// LocalAddr is the address of our end of a side that is not in a relay.
func (s *Side) LocalAddr() net.Addr { return s.tcp.LocalAddr() }

// RemoteAddr is the peer's.
func (s *Side) RemoteAddr() net.Addr { return s.tcp.RemoteAddr() }

// SetDeadline of reads and writes outside of a relay; the zero time means none.
func (s *Side) SetDeadline(t time.Time) error {
	if t.IsZero() && s.hasNone() {
		return nil
	}
	if _, err := s.open(); err != nil {
		return err
	}
	return s.tcp.SetDeadline(t)
}

// hasNone tells whether a side cannot have a deadline.
func (s *Side) hasNone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left != nil
}

// open is the connection for who uses it outside of a relay.
func (s *Side) open() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = true
	if l := s.left; l != nil {
		if l.broken {
			return nil, errMiddle
		}
		s.wake()
		s.left = nil
		var err error
		if s.conn, s.tcp, err = l.conn(); err != nil {
			return nil, err
		}
	}
	if s.conn == nil {
		return nil, net.ErrClosed
	}
	return s.conn, nil
}

var errMiddle = errors.New("the relay ended in the middle of what it was to send")

// CloseWrite tells the peer that nothing more will come: close_notify on TLS,
// then FIN. The other direction stays open.
func (s *Side) CloseWrite() error {
	c, err := s.open()
	if err != nil {
		return err
	}
	s.ended.Store(true)
	if t, ok := c.(interface{ CloseWrite() error }); ok && !s.plain() {
		if err := t.CloseWrite(); err != nil {
			return fmt.Errorf("send close_notify: %w", err)
		}
	}
	return s.tcp.CloseWrite()
}

// Close ends the side in order. A peer that takes nothing any more does not
// hold it up for long.
func (s *Side) Close() error {
	s.mu.Lock()
	c, tcp := s.conn, s.tcp
	if s.loop != nil {
		s.loop.ask(s, false)
	}
	if l := s.left; l != nil {
		s.wake()
		s.left = nil
		l.close(false)
	}
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	_ = tcp.SetWriteDeadline(time.Now().Add(closeTimeout)) // fails only on a closed socket
	return c.Close()
}

const closeTimeout = 5 * time.Second

// Reset ends the side with a TCP RST; what was not sent yet is dropped.
func (s *Side) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.loop != nil:
		s.loop.ask(s, true)
	case s.left != nil:
		s.wake()
		s.left.close(true)
		s.left = nil
	case s.tcp != nil:
		Reset(s.tcp)
	}
}

// Reset closes c with a TCP RST and no byte more. It may be called on a closed
// connection.
func Reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails only on a closed socket
	_ = c.Close()
}

func (s *Side) interrupt() {
	_ = s.tcp.SetDeadline(time.Unix(1, 0)) // fails only on a closed socket
}

// plain tells whether what is read and written is TCP itself.
func (s *Side) plain() bool { return s.conn == net.Conn(s.tcp) }

// reader hands out what a side receives, piece by piece. A piece is valid until
// the next call.
type reader interface {
	next() ([]byte, error)
	release()
}

func (s *Side) reader() reader {
	var r reader
	if s.plain() {
		r = newIdleReader(s.tcp)
	} else {
		small := &smallFirst{src: s.conn}
		if s.whole {
			small.under = s.sock
		}
		r = small
	}
	if len(s.head) > 0 {
		head := s.head
		s.head = nil
		return &headFirst{head: head, reader: r}
	}
	return r
}

// headFirst hands out what was read before the relay began.
type headFirst struct {
	head []byte
	reader
}

func (h *headFirst) next() ([]byte, error) {
	if p := h.head; p != nil {
		h.head = nil
		return p, nil
	}
	return h.reader.next()
}

// smallFirst reads with a small buffer of its own, and with a large one from
// the pool only while pieces do not fit the small one, so that many silent TLS
// connections hold little. (A tls.Conn cannot say whether it has bytes ready,
// so waiting without any buffer, as idleReader does, is not possible.)
type smallFirst struct {
	src   io.Reader
	under *Socket
	small [2048]byte
	large *[]byte
}

func (r *smallFirst) read(p []byte) (int, error) {
	n, err := r.src.Read(p)
	if err == io.EOF && r.under != nil && r.under.ended {
		err = errTruncated
	}
	return n, err
}

var errTruncated = fmt.Errorf("stream ended without close_notify: %w", io.ErrUnexpectedEOF)

func (r *smallFirst) next() ([]byte, error) {
	if r.large == nil {
		n, err := r.read(r.small[:])
		if n == len(r.small) {
			r.large = getBuffer()
		}
		return r.small[:n], err
	}
	n, err := r.read(*r.large)
	if n < len(r.small) && err == nil {
		n = copy(r.small[:], (*r.large)[:n])
		r.release()
		return r.small[:n], nil
	}
	return (*r.large)[:n], err
}

func (r *smallFirst) release() {
	if r.large != nil {
		putBuffer(r.large)
		r.large = nil
	}
}
