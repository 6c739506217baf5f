package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// SVID is a certificate that was signed.
type SVID struct {
	// Chain is PEM, one certificate a string: the leaf, then what leads to a
	// root, without the root.
	Chain     []string
	NotBefore time.Time
	NotAfter  time.Time
}

// Sign answers a PKCS #10 request, DER or PEM, with a leaf for id. Of what the
// request asks for only the public key is taken. The lifetime is LeafTTL when
// ttl is 0 or longer than that, at least MinLeafTTL, and ends with the
// intermediate or the root, whichever is first.
func (c *CA) Sign(request []byte, id spiffeid.ID, ttl time.Duration) (*SVID, error) {
	key, err := ParseRequest(request)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	svid, _, err := c.sign(c.issuer.Load(), key, id, ttl)
	if err != nil {
		return nil, fmt.Errorf("ca: sign for %s: %w", id, err)
	}
	return svid, nil
}

// Issue makes a key and a certificate for id in memory: for the control plane
// itself (see [CA.Server], which renews) and for tests.
func (c *CA) Issue(id spiffeid.ID, ttl time.Duration) (*tls.Certificate, error) {
	cert, err := c.issue(c.issuer.Load(), id, ttl)
	if err != nil {
		return nil, fmt.Errorf("ca: issue for %s: %w", id, err)
	}
	return cert, nil
}

func (c *CA) issue(is *issuer, id spiffeid.ID, ttl time.Duration, dns ...string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	_, leaf, err := c.sign(is, key.Public(), id, ttl, dns...)
	if err != nil {
		return nil, err
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: leaf, Certificate: [][]byte{leaf.Raw}}
	for _, up := range is.chain {
		cert.Certificate = append(cert.Certificate, up.Raw)
	}
	return cert, nil
}

func (c *CA) sign(is *issuer, key crypto.PublicKey, id spiffeid.ID, ttl time.Duration, dns ...string) (*SVID, *x509.Certificate, error) {
	if !id.MemberOf(c.cfg.TrustDomain) {
		return nil, nil, fmt.Errorf("it is not of the trust domain %s", c.cfg.TrustDomain)
	}
	if id.Path() == "" {
		return nil, nil, errors.New("an identity without a path names a trust domain, not a workload")
	}
	now := c.cfg.Now()
	if !now.Before(is.notAfter) {
		return nil, nil, fmt.Errorf("the authority's certificates ended at %s", is.notAfter.UTC().Format(time.RFC3339))
	}
	t := leafTemplate(id.URL(), now, c.lifetime(ttl))
	t.DNSNames = dns
	if t.NotAfter.After(is.notAfter) {
		t.NotAfter = is.notAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, t, is.cert, key, is.key)
	if err != nil {
		return nil, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	svid := &SVID{NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Chain: []string{string(certPEM(der))}}
	for _, up := range is.chain {
		svid.Chain = append(svid.Chain, string(certPEM(up.Raw)))
	}
	return svid, leaf, nil
}

func (c *CA) lifetime(asked time.Duration) time.Duration {
	if asked <= 0 {
		return c.cfg.LeafTTL
	}
	return min(max(asked, MinLeafTTL), c.cfg.LeafTTL)
}

// leafTemplate is an X.509-SVID (SPIFFE X509-SVID, section 4): the SPIFFE ID is
// the only URI, both key purposes, no signing of certificates.
func leafTemplate(id *url.URL, now time.Time, ttl time.Duration) *x509.Certificate {
	return &x509.Certificate{
		URIs:                  []*url.URL{id},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(ttl),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
}
