package apiserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// pkiLifetime of the server's CA, its certificate and the administrator's. The
// keys never leave the machine, and New renews the two leaves in time.
const pkiLifetime = 10 * 365 * 24 * time.Hour

// renewBefore the end of a leaf's life it is replaced at the next start.
const renewBefore = 30 * 24 * time.Hour

// authority is the CA of the API server's own TLS. It has nothing to do with
// the mesh's CA and its identities.
type authority struct {
	dir   string
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	caPEM []byte
}

// openAuthority reads the CA and the server's certificate from dir, or makes
// them once.
func openAuthority(dir string) (*authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	a := &authority{dir: dir}
	if err := a.load(); errors.Is(err, fs.ErrNotExist) {
		if err := a.create(); err != nil {
			return nil, fmt.Errorf("make the API server's CA: %w", err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("read the API server's CA: %w", err)
	}
	_, _, err := a.leaf("server", func() (cert, key []byte, err error) {
		return a.server("localhost", net.IPv4(127, 0, 0, 1), net.IPv6loopback)
	})
	return a, err
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) load() error {
	certPEM, err := os.ReadFile(a.file("ca.crt"))
	if err != nil {
		return err
	}
	keyPEM, err := os.ReadFile(a.file("ca.key"))
	if err != nil {
		return err
	}
	return a.parse(certPEM, keyPEM)
}

func (a *authority) parse(certPEM, keyPEM []byte) error {
	cb, _ := pem.Decode(certPEM)
	kb, _ := pem.Decode(keyPEM)
	if cb == nil || kb == nil {
		return errors.New("ca.crt or ca.key holds no PEM block")
	}
	var err error
	if a.cert, err = x509.ParseCertificate(cb.Bytes); err != nil {
		return err
	}
	if a.key, err = x509.ParseECPrivateKey(kb.Bytes); err != nil {
		return err
	}
	a.caPEM = certPEM
	return nil
}

func (a *authority) create() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl := &x509.Certificate{
		Subject: pkix.Name{CommonName: "hasp API server CA"},
		IsCA:    true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	certPEM, keyPEM, err := sign(tmpl, tmpl, key, key, pkiLifetime)
	if err != nil {
		return err
	}
	// The certificate goes last: load looks for it, so a crash between the two
	// starts over.
	if err := save(a.file("ca.key"), keyPEM); err != nil {
		return err
	}
	if err := save(a.file("ca.crt"), certPEM); err != nil {
		return err
	}
	return a.parse(certPEM, keyPEM)
}

// leaf reads a certificate of this CA from its files, or has it issued when it
// is missing, ends soon or is another CA's.
func (a *authority) leaf(name string, issue func() (cert, key []byte, err error)) (cert, key []byte, err error) {
	cert, cerr := os.ReadFile(a.file(name + ".crt"))
	key, kerr := os.ReadFile(a.file(name + ".key"))
	if cerr == nil && kerr == nil && a.good(cert) {
		return cert, key, nil
	}
	if cert, key, err = issue(); err != nil {
		return nil, nil, fmt.Errorf("issue the %s certificate: %w", name, err)
	}
	if err := save(a.file(name+".key"), key); err != nil {
		return nil, nil, err
	}
	return cert, key, save(a.file(name+".crt"), cert)
}

func (a *authority) good(certPEM []byte) bool {
	b, _ := pem.Decode(certPEM)
	if b == nil {
		return false
	}
	c, err := x509.ParseCertificate(b.Bytes)
	return err == nil && c.CheckSignatureFrom(a.cert) == nil && time.Until(c.NotAfter) > renewBefore
}

// admin is the certificate in the kubeconfig: its group may do everything.
func (a *authority) admin() (cert, key []byte, err error) {
	return a.leaf("admin", func() (cert, key []byte, err error) {
		return a.client("admin", []string{"system:masters"}, pkiLifetime)
	})
}

// server issues a certificate for the server under a name and addresses.
func (a *authority) server(name string, ips ...net.IP) (cert, key []byte, err error) {
	return a.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "hasp"},
		DNSNames:    []string{name},
		IPAddresses: ips,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, pkiLifetime)
}

// client issues a certificate that names a user and its groups.
func (a *authority) client(user string, groups []string, life time.Duration) (cert, key []byte, err error) {
	return a.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, life)
}

func (a *authority) issue(tmpl *x509.Certificate, life time.Duration) (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	return sign(tmpl, a.cert, k, a.key, life)
}

func sign(tmpl, parent *x509.Certificate, key, signer *ecdsa.PrivateKey, life time.Duration) (cert, keyPEM []byte, err error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	tmpl.SerialNumber, tmpl.NotBefore, tmpl.NotAfter = serial, now.Add(-time.Minute), now.Add(life)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	kd, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: kd}), nil
}
