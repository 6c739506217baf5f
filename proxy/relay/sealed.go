package relay

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"

	"hasp/proxy/relay/record"
)

// sealed is a connection under keys that a loop of Fast has used before. One
// goroutine may read it, and any write.
type sealed struct {
	*net.TCPConn
	in  *record.Opener
	raw []byte // received, in whose memory records are opened
	// plain is opened and not read yet, err how reading ended.
	plain []byte
	err   error

	mu  sync.Mutex
	out *record.Sealer
	buf []byte
}

func newSealed(c *net.TCPConn, l *left) *sealed {
	s := &sealed{TCPConn: c, in: l.in, out: l.out, raw: l.raw}
	if l.end {
		s.err = io.EOF
	}
	return s
}

// Read implements net.Conn.
func (c *sealed) Read(p []byte) (int, error) {
	for len(c.plain) == 0 && c.err == nil {
		c.plain, c.err = c.next()
	}
	if len(c.plain) == 0 {
		return 0, c.err
	}
	n := copy(p, c.plain)
	c.plain = c.plain[n:]
	return n, nil
}

// next is the payload of the next record, which may be empty.
func (c *sealed) next() ([]byte, error) {
	rec, err := c.record()
	if err != nil {
		return nil, err
	}
	p, typ, err := c.in.Open(rec)
	if err != nil {
		return nil, c.refuse(err)
	}
	switch typ {
	case record.TypeAlert:
		return nil, toldBy(p)
	case record.TypeHandshake:
		answer, err := c.in.Handshake(p)
		switch {
		case err != nil:
			return nil, c.refuse(err)
		case answer:
			return nil, c.update()
		}
		return nil, nil
	}
	return p, nil
}

// record reads one whole record.
func (c *sealed) record() ([]byte, error) {
	if err := c.fill(record.HeaderLen); err != nil {
		return nil, err
	}
	size, err := record.Size(c.raw)
	if err != nil {
		return nil, c.refuse(err)
	}
	if err := c.fill(size); err != nil {
		return nil, err
	}
	rec := c.raw[:size]
	c.raw = c.raw[size:]
	return rec, nil
}

// fill reads until n bytes are there.
func (c *sealed) fill(n int) error {
	if have := len(c.raw); have < n {
		c.raw = append(make([]byte, 0, n), c.raw...)[:n]
		got, err := io.ReadAtLeast(c.TCPConn, c.raw[have:], n-have)
		c.raw = c.raw[:have+got]
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errTruncated
		}
		return err
	}
	return nil
}

// refuse tells the peer what is wrong with its record.
func (c *sealed) refuse(err error) error {
	alert := record.InternalError
	errors.As(err, &alert)
	c.mu.Lock()
	defer c.mu.Unlock()
	b := make([]byte, record.AlertSize)
	if n, err := c.out.Alert(b, alert); err == nil {
		_, _ = c.TCPConn.Write(b[:n]) // the connection is lost either way
	}
	return local(alert)
}

func (c *sealed) update() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := make([]byte, record.UpdateSize)
	n, err := c.out.Update(b, false)
	if err == nil {
		_, err = c.TCPConn.Write(b[:n])
	}
	return err
}

// Write implements net.Conn.
func (c *sealed) Write(p []byte) (done int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 {
		n := min(len(p), record.MaxPlaintext)
		if len(c.buf) < n+record.Overhead {
			c.buf = make([]byte, n+record.Overhead)
		}
		copy(c.buf[record.HeaderLen:], p[:n])
		size, err := c.out.Seal(c.buf, n, record.TypeApplicationData)
		if err != nil {
			return done, err
		}
		if _, err := c.TCPConn.Write(c.buf[:size]); err != nil {
			return done, err
		}
		done, p = done+n, p[n:]
	}
	return done, nil
}

// CloseWrite sends close_notify.
func (c *sealed) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := make([]byte, record.AlertSize)
	n, err := c.out.Alert(b, record.CloseNotify)
	if err == nil {
		_, err = c.TCPConn.Write(b[:n])
	}
	return err
}

// Close implements net.Conn.
func (c *sealed) Close() error {
	_ = c.CloseWrite() // it is a courtesy, and may have been sent
	return c.TCPConn.Close()
}

// toldBy is what an alert of the peer means: io.EOF for close_notify, nil for
// one that means nothing.
func toldBy(payload []byte) error {
	alert, err := record.ParseAlert(payload)
	switch {
	case err != nil:
		return local(record.DecodeError)
	case alert == record.CloseNotify:
		return io.EOF
	case alert == record.UserCanceled:
		return nil
	}
	// As crypto/tls says it.
	return &net.OpError{Op: "remote error", Err: tls.AlertError(alert)}
}

// local is the error of a peer that was told alert, as crypto/tls says it.
func local(alert record.Alert) error {
	return &net.OpError{Op: "local error", Err: tls.AlertError(alert)}
}
