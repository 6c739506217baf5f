package csr

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Ready is closed once there is a certificate.
func (s *Source) Ready() <-chan struct{} { return s.ready }

// Changed is closed at the next change of certificate or roots. Ask for the
// channel before reading what it is about.
func (s *Source) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Certificate is the current certificate and its key. It is an error before
// the first one, and when the last one expired.
func (s *Source) Certificate() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.cert == nil && s.lastErr != nil:
		return nil, fmt.Errorf("csr: there is no certificate yet: %w", s.lastErr)
	case s.cert == nil:
		return nil, errors.New("csr: there is no certificate yet")
	}
	if end := s.cert.Leaf.NotAfter; s.now().After(end) {
		return nil, fmt.Errorf("csr: the certificate ended at %s", end.UTC().Format(time.RFC3339))
	}
	return s.cert, nil
}

// GetCertificate has the form of the field of [tls.Config].
func (s *Source) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.Certificate()
}

// GetClientCertificate has the form of the field of [tls.Config].
func (s *Source) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return s.Certificate()
}

// Roots is what peers are verified against, nil while there are none. The
// caller does not change it.
func (s *Source) Roots() *x509.CertPool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trust.pool
}

// Status is the state for the admin page and the health check.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{ID: s.cfg.ID, RenewAt: s.renewAt, Err: s.lastErr}
	if s.cert != nil {
		st.NotAfter = s.cert.Leaf.NotAfter
	}
	return st
}

// ControlPlaneTLS is the client side of one connection to the control plane:
// TLS 1.3, the server must present ServerID under the current roots, and the
// current certificate is shown if there is a valid one.
func (s *Source) ControlPlaneTLS() *tls.Config {
	_ = s.readRoots() // without any the server is refused
	cfg := s.clientTLS(s.verifyControlPlane)
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if cert, err := s.Certificate(); err == nil {
			return cert, nil
		}
		return &tls.Certificate{}, nil // none: a token comes instead
	}
	return cfg
}

// authorityTLS is the client side of one request for a certificate. When a
// token proves the workload no certificate is shown: one that is refused would
// end the connection before the token is looked at.
func (s *Source) authorityTLS(byToken bool) *tls.Config {
	switch {
	case s.cfg.CA != "":
		cfg := s.clientTLS(s.verifyCA)
		cfg.ServerName = s.cfg.CAName
		return cfg
	case byToken:
		return s.clientTLS(s.verifyControlPlane)
	}
	return s.ControlPlaneTLS()
}

func (s *Source) clientTLS(verify func(tls.ConnectionState) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		// The name to check is a SPIFFE ID, which crypto/tls does not know, and
		// the roots change: VerifyConnection checks chain and name.
		InsecureSkipVerify: true,
		VerifyConnection:   verify,
	}
}

func (s *Source) verifyControlPlane(cs tls.ConnectionState) error {
	return verifyServer(cs, s.Roots(), s.cfg.ServerID)
}

func (s *Source) verifyCA(cs tls.ConnectionState) error {
	return verifyName(cs, s.Roots(), s.cfg.CAName)
}
