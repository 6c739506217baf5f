package whatif_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"hasp/mesh"
	"hasp/proxy"
)

// authority signs for all workloads of all cases.
type authority struct {
	key   *ecdsa.PrivateKey
	cert  *x509.Certificate
	roots *x509.CertPool

	mu     sync.Mutex
	issued map[string]*tls.Certificate
}

func newAuthority() (*authority, error) {
	a := &authority{issued: map[string]*tls.Certificate{}, roots: x509.NewCertPool()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, t, t, a.key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	a.roots.AddCert(a.cert)
	return a, nil
}

func (a *authority) issue(id string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.issued[id]; c != nil {
		return c, nil
	}
	u, err := url.Parse(id)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(int64(len(a.issued) + 2)), URIs: []*url.URL{u},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	a.issued[id] = c
	return c, nil
}

// identity of one workload.
type identity struct {
	cert  *tls.Certificate
	roots *x509.CertPool
}

func (i identity) Certificate() (*tls.Certificate, error) { return i.cert, nil }
func (i identity) Roots() *x509.CertPool                  { return i.roots }

// host is what runs in one case: proxies, listeners, servers. Everything ends
// with close.
type host struct {
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	errs    []error
	proxies map[string]*sidecar // by workload
}

type sidecar struct {
	*proxy.Proxy
	mu  sync.Mutex
	dst map[netip.AddrPort]netip.AddrPort // by the listener's address
}

func newHost() *host {
	h := &host{proxies: map[string]*sidecar{}}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

func (h *host) close() error {
	h.stop()
	for _, p := range h.proxies {
		p.Close()
	}
	h.wg.Wait()
	return errors.Join(h.errs...)
}

func (h *host) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.errs = append(h.errs, err)
}

// sidecar of a workload at an address.
func (h *host) sidecar(a *authority, workload, id string, at netip.Addr) (*sidecar, error) {
	cert, err := a.issue(id)
	if err != nil {
		return nil, err
	}
	s := &sidecar{dst: map[netip.AddrPort]netip.AddrPort{}}
	s.Proxy, err = proxy.New(proxy.Config{
		Log: slog.New(slog.DiscardHandler), Identity: identity{cert, a.roots},
		Dialer:  &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, 0))},
		OrigDst: s.origDst, HandshakeTimeout: patience,
	})
	if err != nil {
		return nil, err
	}
	h.proxies[workload] = s
	return s, nil
}

func (s *sidecar) origDst(c net.Conn) (netip.AddrPort, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dst, ok := s.dst[addrPort(c.LocalAddr())]
	if !ok {
		return dst, fmt.Errorf("nobody was going anywhere at %s", c.LocalAddr())
	}
	return dst, nil
}

// capture has the sidecar take connections at an address for a destination, and
// returns the address.
func (h *host) capture(s *sidecar, dir mesh.Direction, at, dst netip.AddrPort) (netip.AddrPort, error) {
	ln, err := net.Listen("tcp", at.String())
	if err != nil {
		return at, err
	}
	at = addrPort(ln.Addr())
	s.mu.Lock()
	s.dst[at] = dst
	s.mu.Unlock()
	serve := s.ServeInbound
	if dir == mesh.OutboundDir {
		serve = s.ServeOutbound
	}
	h.wg.Go(func() {
		if err := serve(h.ctx, ln); err != nil {
			h.fail(err)
		}
	})
	return at, nil
}

// echo serves at an address: it says what it hears.
func (h *host) echo(at netip.AddrPort) error {
	ln, err := net.Listen("tcp", at.String())
	if err != nil {
		return err
	}
	h.wg.Go(func() {
		<-h.ctx.Done()
		ln.Close()
	})
	h.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			h.wg.Go(func() {
				defer context.AfterFunc(h.ctx, func() { c.Close() })()
				defer c.Close()
				io.Copy(c, c)
			})
		}
	})
	return nil
}

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
