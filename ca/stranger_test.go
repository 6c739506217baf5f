package ca_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/ca"
)

// A stranger's certificate is signed by the authority, is short-lived, and is of
// nobody in any mesh.
func TestStranger(t *testing.T) {
	a, err := ca.Load(ca.Config{Dir: t.TempDir(), TrustDomain: spiffeid.RequireTrustDomainFromString("cluster.local")})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.Stranger()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	between := x509.NewCertPool()
	for _, der := range cert.Certificate[1:] {
		up, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(up)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: a.Roots(), Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if got := leaf.URIs[0].String(); got != "spiffe://hasp-verify.invalid/ns/default/sa/stranger" {
		t.Errorf("identity %s", got)
	}
	if left := time.Until(leaf.NotAfter); left > ca.MinLeafTTL {
		t.Errorf("it lives %v more, want at most %v", left, ca.MinLeafTTL)
	}
}
