package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const (
	clientID = "spiffe://cluster.local/ns/shop/sa/app-ui"
	serverID = "spiffe://cluster.local/ns/shop/sa/boards"
	// serverName is beside the SPIFFE ID in the server's certificate, for peers
	// that check nothing but DNS names.
	serverName = "server.mesh.test"
)

// svid are the files of one side: certificate, key, both in one, and the roots.
type svid struct{ cert, key, both, roots string }

// writeCertificates makes an authority and the X.509-SVIDs of both sides, as the
// mesh has them: P-256, one URI, short-lived.
func writeCertificates(dir string) (client, server svid, err error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return client, server, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench root"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return client, server, err
	}
	roots := filepath.Join(dir, "roots.pem")
	if err := writePEM(roots, &pem.Block{Type: "CERTIFICATE", Bytes: root}); err != nil {
		return client, server, err
	}
	issue := func(name, id string) (svid, error) {
		uri, err := url.Parse(id)
		if err != nil {
			return svid{}, err
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return svid{}, err
		}
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), URIs: []*url.URL{uri}, DNSNames: []string{serverName},
			NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
		if err != nil {
			return svid{}, err
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return svid{}, err
		}
		file := func(kind string) string { return filepath.Join(dir, fmt.Sprintf("%s-%s.pem", name, kind)) }
		s := svid{cert: file("cert"), key: file("key"), both: file("both"), roots: roots}
		c, k := &pem.Block{Type: "CERTIFICATE", Bytes: der}, &pem.Block{Type: "PRIVATE KEY", Bytes: private}
		for name, blocks := range map[string][]*pem.Block{s.cert: {c}, s.key: {k}, s.both: {c, k}} {
			if err := writePEM(name, blocks...); err != nil {
				return svid{}, err
			}
		}
		return s, nil
	}
	if client, err = issue("client", clientID); err != nil {
		return client, server, err
	}
	server, err = issue("server", serverID)
	return client, server, err
}

func writePEM(name string, blocks ...*pem.Block) error {
	var out []byte
	for _, b := range blocks {
		out = append(out, pem.EncodeToMemory(b)...)
	}
	return os.WriteFile(name, out, 0o600)
}
