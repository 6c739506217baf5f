package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
)

// StrangerDomain is a trust domain that no mesh can have: names under .invalid
// are nobody's (RFC 2606).
const StrangerDomain = "hasp-verify.invalid"

// Stranger makes a short-lived certificate that the authority has signed and
// that no proxy may accept, since its identity is of another trust domain,
// StrangerDomain: to try whether they do (hasp verify). Nothing else makes the
// authority sign for another domain than its own.
func (c *CA) Stranger() (*tls.Certificate, error) {
	is, now := c.issuer.Load(), c.cfg.Now()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	id := &url.URL{Scheme: "spiffe", Host: StrangerDomain, Path: "/ns/default/sa/stranger"}
	der, err := x509.CreateCertificate(rand.Reader, leafTemplate(id, now, MinLeafTTL), is.cert, key.Public(), is.key)
	if err != nil {
		return nil, fmt.Errorf("ca: issue for %s: %w", id, err)
	}
	cert := &tls.Certificate{PrivateKey: key, Certificate: [][]byte{der}}
	for _, up := range is.chain {
		cert.Certificate = append(cert.Certificate, up.Raw)
	}
	return cert, nil
}
