package relay

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Side is one of the two connections of a relay: plain TCP, or TLS over it.
type Side struct {
	conn net.Conn // what is read and written: tcp, or a *tls.Conn over it
	tcp  *net.TCPConn
	head []byte // bytes that were read already, to be read again
	// under is the socket below TLS whose end must be announced, or nil.
	under  *Socket
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
	side := &Side{conn: c, tcp: s.TCPConn}
	if wholeEnd {
		side.under = s
	}
	return side
}

// Again is the side for another relay, after one that failed: the first bytes of
// it are p, which were read before.
func (s *Side) Again(p []byte) *Side {
	s.head = p
	return s
}

// Read reads what the peer sent, the head first.
func (s *Side) Read(p []byte) (int, error) {
	if len(s.head) > 0 {
		n := copy(p, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	return s.conn.Read(p)
}

// Write sends to the peer.
func (s *Side) Write(p []byte) (int, error) { return s.conn.Write(p) }

// Conn is the connection itself, for who does not relay it.
func (s *Side) Conn() net.Conn { return s.conn }

// SetDeadline of reads and writes; the zero time means none.
func (s *Side) SetDeadline(t time.Time) error { return s.tcp.SetDeadline(t) }

// CloseWrite tells the peer that nothing more will come: close_notify on TLS,
// then FIN. The other direction stays open.
func (s *Side) CloseWrite() error {
	s.ended.Store(true)
	if t, ok := s.conn.(*tls.Conn); ok {
		if err := t.CloseWrite(); err != nil {
			return fmt.Errorf("send close_notify: %w", err)
		}
	}
	return s.tcp.CloseWrite()
}

// Close ends the side in order. A peer that takes nothing any more does not
// hold it up for long.
func (s *Side) Close() error {
	_ = s.tcp.SetWriteDeadline(time.Now().Add(closeTimeout)) // fails only on a closed socket
	return s.conn.Close()
}

const closeTimeout = 5 * time.Second

// Reset ends the side with a TCP RST; what was not sent yet is dropped.
func (s *Side) Reset() { Reset(s.tcp) }

// Reset closes c with a TCP RST and no byte more. It may be called on a closed
// connection.
func Reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails only on a closed socket
	_ = c.Close()
}

func (s *Side) interrupt() {
	_ = s.tcp.SetDeadline(time.Unix(1, 0)) // fails only on a closed socket
}

// reader hands out what a side receives, piece by piece. A piece is valid until
// the next call.
type reader interface {
	next() ([]byte, error)
	release()
}

func (s *Side) reader() reader {
	var r reader
	if s.conn == net.Conn(s.tcp) {
		r = newIdleReader(s.tcp)
	} else {
		r = &smallFirst{src: s.conn, under: s.under}
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
		err = fmt.Errorf("stream ended without close_notify: %w", io.ErrUnexpectedEOF)
	}
	return n, err
}

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
