package relay

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"time"

	"hasp/proxy/relay/record"
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

	// secrets are of a connection whose records Fast is to take over. While
	// records is set a read never goes beyond the record it is in, so that the
	// first record after the handshake is left to Fast.
	secrets *record.Secrets
	records bool
	border  border
}

// NewSocket wraps c; head, which may be nil, is what was read from it already.
func NewSocket(c *net.TCPConn, head []byte) *Socket {
	return &Socket{TCPConn: c, head: head}
}

// ForServer is config for the server's handshake over this socket alone, after
// which [Fast] can take the connection over from crypto/tls. Where it could not,
// since session tickets would be sent, it is config itself.
func (s *Socket) ForServer(config *tls.Config) *tls.Config {
	if !config.SessionTicketsDisabled || config.KeyLogWriter != nil {
		return config
	}
	c := s.share(config)
	get := config.GetConfigForClient
	if get == nil {
		return c
	}
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		other, err := get(h)
		if other == nil || err != nil || !other.SessionTicketsDisabled || other.KeyLogWriter != nil {
			return other, err
		}
		return s.share(other), nil // its writer counts, not that of c
	}
	return c
}

// ForClient is ForServer for the client's handshake.
func (s *Socket) ForClient(config *tls.Config) *tls.Config {
	if config.ClientSessionCache != nil || config.KeyLogWriter != nil {
		return config
	}
	return s.share(config)
}

func (s *Socket) share(config *tls.Config) *tls.Config {
	if s.secrets == nil {
		s.secrets, s.records = new(record.Secrets), true
	}
	c := config.Clone()
	c.KeyLogWriter = s.secrets
	return c
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
		if s.records {
			n = s.border.within(p[:n])
		}
		if s.head = s.head[n:]; len(s.head) == 0 {
			s.head = nil // a ClientHello's worth of memory
		}
		return n, nil
	}
	n, err := s.TCPConn.Read(p)
	if s.records {
		if k := s.border.within(p[:n]); k < n {
			s.head = bytes.Clone(p[k:n])
			n = k
		}
	}
	if err == io.EOF {
		s.ended = true
	}
	return n, err
}

// border finds where a record ends in a stream of them.
type border struct {
	head [record.HeaderLen]byte
	n    int // bytes of head that are there
	left int // bytes of the record's body that are to come
}

// within takes the next bytes of the stream, up to the end of the record that
// they begin or go on with, and returns how many that are.
func (b *border) within(p []byte) int {
	n := 0
	if b.n < len(b.head) {
		n = copy(b.head[b.n:], p)
		if b.n += n; b.n < len(b.head) {
			return n
		}
		b.left = int(b.head[3])<<8 | int(b.head[4])
	}
	body := min(len(p)-n, b.left)
	if b.left -= body; b.left == 0 {
		b.n = 0
	}
	return n + body
}

// SetWriteDeadline does nothing. crypto/tls gives its close_notify five seconds
// to be sent and then fails every write; behind a slow reader whole megabytes
// may have to leave first, and the stream would end cut short. Who wants a
// deadline sets it on the TCPConn.
func (s *Socket) SetWriteDeadline(time.Time) error { return nil }
