package proof

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"hasp/mesh"
)

const (
	// knockTime bounds one attempt.
	knockTime = 5 * time.Second
	// patience is how long a client that is through its handshake waits to be
	// sent away: with TLS 1.3 a server answers a certificate only after it.
	patience = time.Second
	// alpn makes a PERMISSIVE server take the TLS for the mesh's.
	alpn = "istio"
	// line is what the plaintext attempt says. No TLS record begins so.
	line = "hasp verify\r\n\r\n"
)

// Stranger is whom an attempt pretends to be.
type Stranger string

const (
	Plain       Stranger = "plaintext"
	Bare        Stranger = "no-certificate"
	OtherCA     Stranger = "other-ca"
	OtherDomain Stranger = "other-trust-domain"
	Member      Stranger = "member"
)

// Credentials that strangers show. One that is nil cannot be tried.
type Credentials struct {
	Certificates map[Stranger]*tls.Certificate
	Roots        *x509.CertPool // of the mesh
}

// Sight is what an attempt saw.
type Sight struct {
	Evidence
	// Reached says that somebody took the connection.
	Reached bool
	// Accepted says that the attempt was not sent away.
	Accepted bool
	// Shaken says that the TLS handshake went through.
	Shaken bool
}

// Knock once.
func Knock(ctx context.Context, who Stranger, at netip.AddrPort, c Credentials) (s Sight) {
	ctx, cancel := context.WithTimeout(ctx, knockTime)
	defer cancel()
	s.Address = at.String()
	start := time.Now()
	defer func() { s.Took = time.Since(start).Round(100 * time.Microsecond) }()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		s.Saw = "not reached: " + sentence(err)
		return s
	}
	defer conn.Close()
	s.Reached, s.From = true, addrPort(conn.LocalAddr()).String()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		s.Saw = sentence(err)
		return s
	}
	if who == Plain {
		s.plain(conn)
	} else {
		s.shake(ctx, who, conn, c)
	}
	return s
}

// plain says a line and waits for what comes.
func (s *Sight) plain(conn net.Conn) {
	s.Trace = mesh.TraceOf(nil, addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr()))
	_, err := io.WriteString(conn, line)
	n := 0
	if err == nil {
		n, err = conn.Read(make([]byte, 512))
	}
	switch {
	case n > 0:
		s.Accepted, s.Saw = true, "it answered"
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.Accepted, s.Saw = true, "it neither answered nor closed"
	default:
		s.Saw = sentence(err)
	}
}

// shake runs a handshake and waits whether it is taken back.
func (s *Sight) shake(ctx context.Context, who Stranger, conn net.Conn, c Credentials) {
	hello := &helloSnoop{Conn: conn}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{alpn},
		// A SPIFFE server has no DNS name: VerifyConnection goes by its identity.
		InsecureSkipVerify: true,
		VerifyConnection:   func(cs tls.ConnectionState) error { return s.server(&cs, c.Roots) },
	}
	if cert := c.Certificates[who]; cert != nil {
		// Whatever authorities the server names.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	t := tls.Client(hello, config)
	err := t.HandshakeContext(ctx)
	s.Trace = mesh.TraceOf(hello.random(), addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr()))
	if err != nil {
		s.Saw = sentence(err)
		return
	}
	s.Shaken = true
	defer t.Close() // with a goodbye
	cs := t.ConnectionState()
	s.TLS, s.Group = version(cs.Version), cs.CurveID.String()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		s.Saw = sentence(err)
		return
	}
	n, err := t.Read(make([]byte, 512))
	switch {
	case n > 0:
		s.Accepted, s.Saw = true, "the handshake went through and the workload spoke"
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.Accepted, s.Saw = true, "the handshake went through and the connection stayed open"
	default:
		s.Saw = "after the handshake: " + sentence(err)
	}
}

// server verifies that the server proves an identity of the mesh.
func (s *Sight) server(cs *tls.ConnectionState, roots *x509.CertPool) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the server showed no certificate")
	}
	between := x509.NewCertPool()
	for _, up := range cs.PeerCertificates[1:] {
		between.AddCert(up)
	}
	leaf := cs.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return fmt.Errorf("the server's certificate: %w", err)
	}
	if len(leaf.URIs) != 1 {
		return errors.New("the server's certificate names no identity")
	}
	s.Identity = leaf.URIs[0].String()
	return nil
}

// sentence is an error as a person reads it.
func sentence(err error) string {
	var alert tls.AlertError
	var op *net.OpError
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, io.EOF):
		return "connection closed"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &alert):
		return "TLS alert: " + alert.Error()
	case errors.As(err, &op) && op.Op == "remote error": // a TLS alert
		return "TLS alert: " + op.Err.Error()
	}
	return err.Error()
}

func version(v uint16) string {
	if v == tls.VersionTLS13 {
		return "1.3"
	}
	return "1.2"
}

func addrPort(a net.Addr) netip.AddrPort {
	t, _ := a.(*net.TCPAddr)
	if t == nil {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// helloSnoop keeps the head of what is written first: the ClientHello.
type helloSnoop struct {
	net.Conn
	head []byte
}

const (
	randomAt  = 11 // record header 5, handshake header 4, version 2 (RFC 8446, section 4.1.2)
	randomEnd = randomAt + 32
)

// Write implements net.Conn.
func (h *helloSnoop) Write(p []byte) (int, error) {
	if miss := randomEnd - len(h.head); miss > 0 {
		h.head = append(h.head, p[:min(miss, len(p))]...)
	}
	return h.Conn.Write(p)
}

func (h *helloSnoop) random() []byte {
	if len(h.head) < randomEnd {
		return nil
	}
	return h.head[randomAt:randomEnd]
}
