package csr

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// verifyServer wants the control plane's SPIFFE ID.
func verifyServer(cs tls.ConnectionState, roots *x509.CertPool, id spiffeid.ID) error {
	leaf, mid, err := presented(cs, roots)
	if err == nil {
		err = verifyChain(leaf, mid, roots, id, x509.ExtKeyUsageServerAuth)
	}
	if err != nil {
		return fmt.Errorf("csr: the control plane: %w", err)
	}
	return nil
}

// verifyName wants a DNS name, which is what an authority of somebody else has.
func verifyName(cs tls.ConnectionState, roots *x509.CertPool, name string) error {
	leaf, mid, err := presented(cs, roots)
	if err == nil {
		_, err = leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: mid})
	}
	if err != nil {
		return fmt.Errorf("csr: the authority %s: %w", name, err)
	}
	return nil
}

// presented is the server's certificate and what came with it.
func presented(cs tls.ConnectionState, roots *x509.CertPool) (*x509.Certificate, *x509.CertPool, error) {
	switch {
	case len(cs.PeerCertificates) == 0:
		return nil, nil, errors.New("it presented no certificate")
	case roots == nil: // crypto/x509 would take those of the machine
		return nil, nil, errors.New("there are no roots to verify it by")
	}
	mid := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		mid.AddCert(c)
	}
	return cs.PeerCertificates[0], mid, nil
}

func verifyChain(leaf *x509.Certificate, mid, roots *x509.CertPool, id spiffeid.ID, use x509.ExtKeyUsage) error {
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: mid, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
		return err
	}
	got, err := x509svid.IDFromCert(leaf)
	if err != nil {
		return err
	}
	if got != id {
		return fmt.Errorf("it is for %s, want %s", got, id)
	}
	return nil
}
