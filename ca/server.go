package ca

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Server is an identity that the authority's own process presents. It renews
// itself when it is asked for past half its life, and when the authority was
// reloaded; it needs no goroutine.
type Server struct {
	ca  *CA
	id  spiffeid.ID
	dns []string

	mu     sync.Mutex
	cert   *tls.Certificate
	issuer *issuer
	renew  time.Time
}

// Server makes the identity and its first certificate. The DNS names are for
// clients that know no SPIFFE: an API server that calls a webhook, a foreign
// mesh's agent.
func (c *CA) Server(id spiffeid.ID, dns ...string) (*Server, error) {
	s := &Server{ca: c, id: id, dns: dns}
	if _, err := s.Certificate(); err != nil {
		return nil, err
	}
	return s, nil
}

// ID is the identity it presents.
func (s *Server) ID() spiffeid.ID { return s.id }

// Certificate is the current certificate and key. When renewing fails the old
// one is returned as long as it is valid.
func (s *Server) Certificate() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	is, now := s.ca.issuer.Load(), s.ca.cfg.Now()
	if s.cert != nil && s.issuer == is && now.Before(s.renew) {
		return s.cert, nil
	}
	cert, err := s.ca.issue(is, s.id, 0, s.dns...)
	if err != nil {
		if s.cert != nil && now.Before(s.cert.Leaf.NotAfter) {
			return s.cert, nil
		}
		return nil, fmt.Errorf("ca: issue for %s: %w", s.id, err)
	}
	s.cert, s.issuer = cert, is
	s.renew = now.Add(cert.Leaf.NotAfter.Sub(now) / 2)
	return cert, nil
}

// GetCertificate has the form of the field of [tls.Config].
func (s *Server) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.Certificate()
}

// Roots is what peers are verified against.
func (s *Server) Roots() *x509.CertPool { return s.ca.Roots() }
