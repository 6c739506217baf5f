package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"runtime"
	"testing"
	"time"

	"hasp/mesh"
)

// Handshakes of one peer share its certificates and what is kept of them; those
// of others do not; and nothing is kept for nobody.
func TestCertsAreShared(t *testing.T) {
	ca := newTestCA(t)
	c := new(certs)
	boards := ca.issue(t, mesh.Identity("cluster.local", "shop", "boards")).Leaf
	users := ca.issue(t, mesh.Identity("cluster.local", "shop", "users")).Leaf
	state := func(cert *x509.Certificate, suite uint16) *tls.ConnectionState {
		again, err := x509.ParseCertificate(cert.Raw)
		if err != nil {
			t.Fatal(err)
		}
		cs := &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: suite, PeerCertificates: []*x509.Certificate{again}}
		c.share(cs)
		return c.state(cs)
	}
	first, same := state(boards, tls.TLS_AES_128_GCM_SHA256), state(boards, tls.TLS_AES_128_GCM_SHA256)
	cipher, other := state(boards, tls.TLS_AES_256_GCM_SHA384), state(users, tls.TLS_AES_128_GCM_SHA256)
	if first != same || first == cipher || first == other {
		t.Error("a state is one for all that came out the same, and for no other")
	}
	if a, b := first.PeerCertificates[0], cipher.PeerCertificates[0]; a != b || !a.Equal(boards) {
		t.Errorf("one certificate is there twice: %p, %p", a, b)
	}
	if !other.PeerCertificates[0].Equal(users) || other.CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Error("another peer's handshake is mixed up with it")
	}
	shown := func(presented *x509.Certificate, offered ...string) *hand {
		return c.hand(&hand{own: users, presented: presented, offered: offered})
	}
	one := shown(boards, "a", "b")
	if one != shown(boards, "a", "b") || one == shown(users, "a", "b") || one == shown(boards, "a b") {
		t.Error("a hand is one for all that say the same, and for no other")
	}
	runtime.KeepAlive([]any{first, same, cipher, other, one})
	for end := time.Now().Add(patience); ; runtime.Gosched() {
		runtime.GC()
		left := sizeOf(&c.known) + sizeOf(&c.states) + sizeOf(&c.hands)
		if left == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d are still known", left)
		}
	}
}

func sizeOf[K comparable, V any](s *shared[K, V]) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.have)
}
