package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"
)

func TestAProvenLeafIsProvenAgainWhenItMatters(t *testing.T) {
	ca := newTestCA(t)
	source := new(identity)
	source.roots.Store(ca.pool)
	id := &trust{Identity: source}
	leaf := ca.issue(t, "spiffe://cluster.local/ns/shop/sa/boards", func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(-time.Hour) }).Leaf
	now := time.Now()
	ask := func(use x509.ExtKeyUsage, now time.Time) error {
		_, err := verifyPeer(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}, id, use, now)
		return err
	}
	holds := func() bool { return id.proven.holds(leaf, source.Roots(), x509.ExtKeyUsageClientAuth, now) }

	if holds() {
		t.Fatal("proven before it was asked")
	}
	if err := ask(x509.ExtKeyUsageClientAuth, now); err != nil || !holds() {
		t.Fatalf("%v, remembered %v", err, holds())
	}
	if id.proven.holds(leaf, source.Roots(), x509.ExtKeyUsageServerAuth, now) {
		t.Error("for a client's is a server's")
	}
	for name, at := range map[string]time.Time{"expired": leaf.NotAfter.Add(time.Second), "not valid yet": leaf.NotBefore.Add(-time.Second), "its root expired": ca.cert.NotAfter.Add(time.Second), "its root not valid yet": ca.cert.NotBefore.Add(-time.Second)} {
		if err := ask(x509.ExtKeyUsageClientAuth, at); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	source.roots.Store(newTestCA(t).pool)
	if err := ask(x509.ExtKeyUsageClientAuth, now); err == nil || holds() {
		t.Errorf("other roots: %v, remembered %v", err, holds())
	}
	source.roots.Store(ca.pool)
	other := newTestCA(t).issue(t, "spiffe://cluster.local/ns/shop/sa/boards").Leaf
	leaf = other // says the same, and nobody signed it
	if err := ask(x509.ExtKeyUsageClientAuth, now); err == nil || holds() {
		t.Errorf("another leaf: %v, remembered %v", err, holds())
	}
}
