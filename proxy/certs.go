package proxy

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"weak"
)

// certs has peers that show the same certificates share them in memory, where
// crypto/tls makes a server parse and keep them for each connection: some KiB,
// which is most of a silent one. So it is with what else is kept of handshakes.
type certs struct {
	known  shared[[sha256.Size]byte, x509.Certificate]
	states shared[stateKey, tls.ConnectionState]
	hands  shared[handKey, hand]
}

// stateKey is all of a handshake that is asked for later.
type stateKey struct {
	chain           [sha256.Size]byte
	version, suite  uint16
	curve           tls.CurveID
	protocol, named string
	resumed         bool
}

// handKey is all of a hand.
type handKey struct {
	own, presented         *x509.Certificate
	expected, sni, offered string
}

// share replaces the certificates of a handshake by equal ones that are there
// already.
func (c *certs) share(cs *tls.ConnectionState) {
	chain := make([]*x509.Certificate, len(cs.PeerCertificates))
	for i, cert := range cs.PeerCertificates {
		chain[i] = c.known.one(sha256.Sum256(cert.Raw), func() *x509.Certificate { return cert })
	}
	cs.PeerCertificates = chain
}

// state is what trunks keep of a handshake whose certificates are shared: who
// the peer is and what was agreed on, without the secrets of crypto/tls, and one
// for all that came out the same.
func (c *certs) state(cs *tls.ConnectionState) *tls.ConnectionState {
	key := stateKey{version: cs.Version, suite: cs.CipherSuite, curve: cs.CurveID, protocol: cs.NegotiatedProtocol, named: cs.ServerName, resumed: cs.DidResume}
	sum := sha256.New()
	for _, cert := range cs.PeerCertificates {
		_, _ = sum.Write(cert.Raw) // never fails
	}
	sum.Sum(key.chain[:0])
	return c.states.one(key, func() *tls.ConnectionState {
		return &tls.ConnectionState{
			Version: cs.Version, HandshakeComplete: cs.HandshakeComplete, DidResume: cs.DidResume, CipherSuite: cs.CipherSuite, CurveID: cs.CurveID,
			NegotiatedProtocol: cs.NegotiatedProtocol, ServerName: cs.ServerName, PeerCertificates: slices.Clone(cs.PeerCertificates),
		}
	})
}

// hand is one that says the same.
func (c *certs) hand(h *hand) *hand {
	key := handKey{h.own, h.presented, fmt.Sprintf("%q", h.expected), h.sni, fmt.Sprintf("%q", h.offered)}
	return c.hands.one(key, func() *hand { return h })
}

// shared has one of what is equal, by key, and only while somebody has it. The
// zero value is ready.
type shared[K comparable, V any] struct {
	mu   sync.Mutex
	have map[K]weak.Pointer[V]
}

// one is what is there for a key, or else a new one.
func (s *shared[K, V]) one(key K, fresh func() *V) *V {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.have[key].Value(); v != nil {
		return v
	}
	if s.have == nil {
		s.have = make(map[K]weak.Pointer[V])
	}
	v := fresh()
	s.have[key] = weak.Make(v)
	runtime.AddCleanup(v, s.forget, key)
	return v
}

// forget is called when nobody has what was there for a key.
func (s *shared[K, V]) forget(key K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have[key].Value() == nil { // else there is another by now
		delete(s.have, key)
	}
}
