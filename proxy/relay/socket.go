package relay

import (
	"io"
	"net"
	"time"
)

// Socket is what a tls.Conn of the proxy runs over: a TCP connection that first
// gives back the bytes read from it before, and that remembers the ClientHello's
// random and whether its stream has ended. Only one goroutine may read it, as
// with any tls.Conn.
type Socket struct {
	*net.TCPConn
	head  []byte
	ended bool // FIN came, which close_notify makes TLS stop short of
	// hello is of the half that was first: what a client writes, what a server
	// reads. It is whole before the handshake is, so nothing changes afterwards.
	hello  Hello
	client bool // wrote first
}

// NewSocket wraps c; head, which may be nil, is what was read from it already.
func NewSocket(c *net.TCPConn, head []byte) *Socket {
	return &Socket{TCPConn: c, head: head}
}

// ClientRandom is the random of the ClientHello that was sent or received; nil
// while there was none.
func (s *Socket) ClientRandom() []byte { return s.hello.Random() }

// Write implements net.Conn.
func (s *Socket) Write(p []byte) (int, error) {
	if !s.hello.Done() && (s.client || s.hello.n == 0) {
		s.client = true
		s.hello.Add(p)
	}
	return s.TCPConn.Write(p)
}

// Read implements net.Conn.
func (s *Socket) Read(p []byte) (int, error) {
	n, err := s.read(p)
	if n > 0 && !s.client && !s.hello.Done() {
		s.hello.Add(p[:n])
	}
	return n, err
}

func (s *Socket) read(p []byte) (int, error) {
	if len(s.head) > 0 {
		n := copy(p, s.head)
		if s.head = s.head[n:]; len(s.head) == 0 {
			s.head = nil // a ClientHello's worth of memory
		}
		return n, nil
	}
	n, err := s.TCPConn.Read(p)
	if err == io.EOF {
		s.ended = true
	}
	return n, err
}

// SetWriteDeadline does nothing. crypto/tls gives its close_notify five seconds
// to be sent and then fails every write; behind a slow reader whole megabytes
// may have to leave first, and the stream would end cut short. Who wants a
// deadline sets it on the TCPConn.
func (s *Socket) SetWriteDeadline(time.Time) error { return nil }
