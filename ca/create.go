package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"maps"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Complete is what a set of files becomes: an empty one gets a root and an
// intermediate of our own, and our own intermediate is renewed when it is past
// half its life. It returns the files given when nothing is to be done, and else
// a set of its own, for the caller to keep. cfg.Dir is not read.
func Complete(cfg Config, files Files) (_ Files, changed bool, err error) {
	if cfg, err = cfg.withDefaults(); err != nil {
		return nil, false, fmt.Errorf("ca: %w", err)
	}
	next := Files{}
	maps.Copy(next, files)
	if err := ensure(next, cfg); err != nil {
		return nil, false, fmt.Errorf("ca: %w", err)
	}
	if maps.EqualFunc(next, files, bytes.Equal) {
		return files, false, nil
	}
	return next, true, nil
}

// ensure makes what is missing of an authority of our own. ca-cert.pem is
// written last, so a directory that has it is complete; a crash before that
// leaves a root that the next call continues with.
func ensure(d store, cfg Config) error {
	if d.has(caCertFile) {
		return renew(d, cfg)
	}
	if d.has(caKeyFile) && !d.has(rootKeyFile) {
		return fmt.Errorf("%s has %s but no %s", d, caKeyFile, caCertFile)
	}
	if !d.has(rootCertFile) {
		if err := createRoot(d, cfg); err != nil {
			return fmt.Errorf("create the root: %w", err)
		}
	}
	if !d.has(rootKeyFile) {
		return fmt.Errorf("%s has %s but no %s, and no %s to sign one with", d, rootCertFile, caCertFile, rootKeyFile)
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	if err := writeKey(d, caKeyFile, key); err != nil {
		return err
	}
	if err := createIntermediate(d, cfg, key); err != nil {
		return fmt.Errorf("create the intermediate: %w", err)
	}
	return nil
}

// renew signs the intermediate anew when it is past half its life and the root
// that signed it is our own. The key stays: a crash between two files must not
// leave a certificate beside a key that is not its own.
func renew(d store, cfg Config) error {
	if !d.has(rootKeyFile) {
		return nil
	}
	cert, err := readCert(d, caCertFile)
	if err != nil {
		return err
	}
	half := cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 2)
	if cfg.Now().Before(half) {
		return nil
	}
	root, _, err := ownRoot(d)
	if err != nil {
		return err
	}
	if root == nil || cert.CheckSignatureFrom(root) != nil {
		return nil // replaced by files of another authority: theirs to renew
	}
	key, err := readKey(d, caKeyFile)
	if err != nil {
		return err
	}
	if err := createIntermediate(d, cfg, key); err != nil {
		return fmt.Errorf("renew the intermediate: %w", err)
	}
	return nil
}

func createRoot(d store, cfg Config) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	t := authority(cfg.TrustDomain, "root", cfg.Now(), cfg.RootTTL)
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	if err := writeKey(d, rootKeyFile, key); err != nil {
		return err
	}
	return d.write(rootCertFile, certPEM(der))
}

func createIntermediate(d store, cfg Config, key crypto.Signer) error {
	root, rootKey, err := ownRoot(d)
	if err != nil {
		return err
	}
	if root == nil {
		return fmt.Errorf("%s is the key of no certificate in %s", rootKeyFile, rootCertFile)
	}
	t := authority(cfg.TrustDomain, "intermediate", cfg.Now(), cfg.IntermediateTTL)
	t.MaxPathLenZero = true // it signs leaves, nothing that signs
	if t.NotAfter.After(root.NotAfter) {
		t.NotAfter = root.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, t, root, key.Public(), rootKey)
	if err != nil {
		return err
	}
	pem := certPEM(der)
	if err := d.write(chainFile, append(certPEM(der), certPEM(root.Raw)...)); err != nil {
		return err
	}
	return d.write(caCertFile, pem)
}

// ownRoot is the root whose key we hold; the certificate is nil when the key
// belongs to none of the roots.
func ownRoot(d store) (*x509.Certificate, crypto.Signer, error) {
	key, err := readKey(d, rootKeyFile)
	if err != nil {
		return nil, nil, err
	}
	roots, err := readCerts(d, rootCertFile)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range roots {
		if samePublicKey(r.PublicKey, key.Public()) {
			return r, key, nil
		}
	}
	return nil, key, nil
}

// authority is the template of a signing certificate (SPIFFE X509-SVID,
// section 3.2: a trust domain without a path names a signing certificate).
func authority(td spiffeid.TrustDomain, what string, now time.Time, ttl time.Duration) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{td.Name()}, CommonName: "hasp " + what},
		URIs:                  []*url.URL{td.ID().URL()},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(ttl),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}
