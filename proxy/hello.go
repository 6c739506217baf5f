package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// maxHello bounds what is read of a ClientHello: one TLS record of the largest
// size and its header. Post-quantum key shares make real ones about 1.5 KB.
const maxHello = 5 + 16<<10

// hello is what a ClientHello says about who sent it.
type hello struct {
	alpn []string
	sni  string
}

// readHello reads a whole ClientHello, which may span segments, and returns all
// bytes it consumed, to be put back in front. ok is false when it is not a
// ClientHello, is larger than maxHello or does not come to its end.
func readHello(r io.Reader) (h hello, read []byte, ok bool) {
	var rec bytes.Buffer
	tee := io.TeeReader(io.LimitReader(r, maxHello), &rec)
	// crypto/tls parses; the error from the hook stops it before it answers.
	err := tls.Server(readOnly{tee}, &tls.Config{
		GetConfigForClient: func(c *tls.ClientHelloInfo) (*tls.Config, error) {
			h, ok = hello{alpn: c.SupportedProtos, sni: c.ServerName}, true
			return nil, errHelloSeen
		},
	}).Handshake()
	if err == nil {
		ok = false // not possible: the hook always fails it
	}
	return h, rec.Bytes(), ok
}

var errHelloSeen = errors.New("hello seen")

// readOnly is the part of a net.Conn that reading a ClientHello needs; what
// crypto/tls would send goes nowhere.
type readOnly struct{ io.Reader }

func (readOnly) Write(b []byte) (int, error)      { return len(b), nil }
func (readOnly) Close() error                     { return nil }
func (readOnly) LocalAddr() net.Addr              { return nil }
func (readOnly) RemoteAddr() net.Addr             { return nil }
func (readOnly) SetDeadline(time.Time) error      { return nil }
func (readOnly) SetReadDeadline(time.Time) error  { return nil }
func (readOnly) SetWriteDeadline(time.Time) error { return nil }
