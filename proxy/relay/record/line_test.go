package record

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// line is a connection as a relay uses it: the handshake is crypto/tls's, all
// that follows is an Opener's and a Sealer's.
type line struct {
	net.Conn
	r       *bufio.Reader
	open    *Opener
	rest    []byte // payload that was not read yet
	updates int    // of the peer's keys
	asked   int    // for such

	mu   sync.Mutex // the reader answers key updates
	seal *Sealer
}

// exactly reads no further than the end of a record, so that what follows a
// handshake is left for us.
type exactly struct {
	net.Conn
	r    *bufio.Reader
	left int
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		head, err := e.r.Peek(HeaderLen)
		if err != nil {
			return 0, err
		}
		e.left = HeaderLen + int(head[3])<<8 + int(head[4])
	}
	n, err := e.r.Read(p[:min(len(p), e.left)])
	e.left -= n
	return n, err
}

// newLine does a handshake and takes over.
func newLine(c net.Conn, config *tls.Config, client bool) (*line, error) {
	l := &line{Conn: c, r: bufio.NewReaderSize(c, MaxRecord)}
	var secrets Secrets
	config = config.Clone()
	config.KeyLogWriter = &secrets
	config.SessionTicketsDisabled = true
	config.MinVersion = tls.VersionTLS13
	handshake := tls.Server
	if client {
		handshake = tls.Client
	}
	conn := handshake(&exactly{Conn: c, r: l.r}, config)
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	var err error
	l.open, l.seal, err = secrets.Keys(conn.ConnectionState().CipherSuite, client)
	return l, err
}

// send seals something and writes it.
func (l *line) send(f func(b []byte) (int, error)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := make([]byte, MaxRecord)
	n, err := f(b)
	if err == nil {
		_, err = l.Conn.Write(b[:n])
	}
	return err
}

func (l *line) update(request bool) error {
	return l.send(func(b []byte) (int, error) { return l.seal.Update(b, request) })
}

// CloseWrite ends our direction.
func (l *line) CloseWrite() error {
	return l.send(func(b []byte) (int, error) { return l.seal.Alert(b, CloseNotify) })
}

func (l *line) data(p []byte) error {
	return l.send(func(b []byte) (int, error) { return l.seal.Seal(b, copy(b[HeaderLen:], p), TypeApplicationData) })
}

// Write sends records of any size, empty ones too, and new keys now and then.
func (l *line) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(mrand.IntN(MaxPlaintext+1), len(rest))
		if mrand.IntN(4) == 0 {
			n = min(n, mrand.IntN(3))
		}
		if mrand.IntN(8) == 0 {
			request := l.asked < maxIdle/2 && mrand.IntN(2) == 0
			if request {
				l.asked++ // its answers count as records without data
			}
			if err := l.update(request); err != nil {
				return 0, err
			}
		}
		if err := l.data(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

func (l *line) Read(p []byte) (int, error) {
	for len(l.rest) == 0 {
		if err := l.record(); err != nil {
			return 0, err
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// record reads one.
func (l *line) record() error {
	head, err := l.r.Peek(HeaderLen)
	if err != nil {
		return err
	}
	n, err := Size(head)
	if err != nil {
		return err
	}
	rec := make([]byte, n)
	if _, err := io.ReadFull(l.r, rec); err != nil {
		return err
	}
	p, typ, err := l.open.Open(rec)
	if err != nil {
		return err
	}
	switch typ {
	case TypeAlert:
		a, err := ParseAlert(p)
		if err == nil && a == CloseNotify {
			err = io.EOF
		}
		if err == nil {
			err = a
		}
		return err
	case TypeHandshake:
		before := l.open.h
		answer, err := l.open.Handshake(p)
		if l.open.h != before {
			l.updates++
		}
		if err != nil || !answer {
			return err
		}
		return l.update(false)
	}
	l.rest = p
	return nil
}

// pieces writes what it is given in pieces of any size.
type pieces struct{ net.Conn }

func (c pieces) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(1+mrand.IntN(2*MaxRecord), len(rest))
		if mrand.IntN(4) == 0 {
			n = min(n, 1+mrand.IntN(9))
		}
		if _, err := c.Conn.Write(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// certificate is one for whoever asks, and the PEM of it and its key.
func certificate(t testing.TB) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, text
}

type closer interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// exchange sends bytes both ways at once, and then ends both directions. No end
// comes before all was read: crypto/tls that is asked for a key update after its
// own end cannot answer, and misses the new keys of the one who asks.
func exchange(a, b closer, size int) error {
	var g errgroup.Group
	var arriving sync.WaitGroup
	fail := func(format string, args ...any) error {
		go a.Close() // whoever waits need not; crypto/tls may write first
		go b.Close()
		return fmt.Errorf(format, args...)
	}
	pump := func(from, to closer, seed byte) {
		sent, got := make([]byte, size), make([]byte, size)
		_, _ = mrand.NewChaCha8([32]byte{seed}).Read(sent)
		arriving.Add(1)
		g.Go(func() error {
			for rest := sent; len(rest) > 0; {
				n := min(1+mrand.IntN(64<<10), len(rest))
				if _, err := from.Write(rest[:n]); err != nil {
					return fail("write: %w", err)
				}
				rest = rest[n:]
			}
			arriving.Wait()
			if err := from.CloseWrite(); err != nil {
				return fail("end: %w", err)
			}
			return nil
		})
		g.Go(func() error {
			n, err := io.ReadFull(to, got)
			arriving.Done()
			if err != nil || !bytes.Equal(got, sent) {
				return fail("read %d of %d bytes, the right ones: %v, %w", n, size, bytes.Equal(got, sent), err)
			}
			if n, err := to.Read(got); n != 0 || err != io.EOF {
				return fail("at the end: %d bytes, %w", n, err)
			}
			return nil
		})
	}
	pump(a, b, 1)
	pump(b, a, 2)
	return g.Wait()
}
