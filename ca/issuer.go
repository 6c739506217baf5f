package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// issuer is one reading of the files, complete and checked; a Reload
// replaces it whole.
type issuer struct {
	cert     *x509.Certificate
	key      crypto.Signer
	chain    []*x509.Certificate // cert first, up to but without the root
	roots    *x509.CertPool
	bundle   []byte    // the roots in PEM
	notAfter time.Time // the earliest end in chain and root
}

// loadIssuer reads the files and proves that they can sign.
func loadIssuer(d store, cfg Config) (*issuer, error) {
	cert, err := readCert(d, caCertFile)
	if err != nil {
		return nil, err
	}
	key, err := readKey(d, caKeyFile)
	if err != nil {
		return nil, err
	}
	if !samePublicKey(cert.PublicKey, key.Public()) {
		return nil, fmt.Errorf("%s is not the key of %s", caKeyFile, caCertFile)
	}
	roots, err := readCerts(d, rootCertFile)
	if err != nil {
		return nil, err
	}
	is := &issuer{cert: cert, key: key, roots: x509.NewCertPool()}
	for _, r := range roots {
		is.roots.AddCert(r)
		is.bundle = append(is.bundle, certPEM(r.Raw)...)
	}
	var between []*x509.Certificate
	if d.has(chainFile) {
		if between, err = readCerts(d, chainFile); err != nil {
			return nil, err
		}
	}
	if err := is.prove(between, cfg); err != nil {
		return nil, err
	}
	return is, nil
}

// prove signs a leaf on trial and verifies it as a peer would. That finds an
// expired intermediate, one that may not sign, name constraints that forbid our
// trust domain and a chain that ends in no root, with one question; and the
// chain that verified is the one to send.
func (is *issuer) prove(between []*x509.Certificate, cfg Config) error {
	if !is.cert.IsCA || is.cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return fmt.Errorf("%s may not sign certificates", caCertFile)
	}
	now := cfg.Now()
	id := &url.URL{Scheme: "spiffe", Host: cfg.TrustDomain.Name(), Path: "/ns/trial/sa/trial"}
	trial := leafTemplate(id, now, MinLeafTTL)
	key, err := newKey()
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, trial, is.cert, key.Public(), is.key)
	if err != nil {
		return fmt.Errorf("sign on trial: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("sign on trial: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(is.cert)
	for _, c := range between {
		pool.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: is.roots, Intermediates: pool, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return fmt.Errorf("what %s signs does not verify against %s: %w", caCertFile, rootCertFile, err)
	}
	return is.choose(chains)
}

// choose takes the shortest chain that starts at our certificate.
func (is *issuer) choose(chains [][]*x509.Certificate) error {
	var best []*x509.Certificate
	for _, c := range chains {
		if len(c) > 1 && bytes.Equal(c[1].Raw, is.cert.Raw) && (best == nil || len(c) < len(best)) {
			best = c
		}
	}
	if best == nil {
		return errors.New("no chain to a root goes through " + caCertFile)
	}
	is.notAfter = best[1].NotAfter
	for _, c := range best[1:] {
		if c.NotAfter.Before(is.notAfter) {
			is.notAfter = c.NotAfter
		}
	}
	// A self-signed ca-cert.pem is its own root: nothing is between.
	is.chain = best[1 : len(best)-1]
	return nil
}
