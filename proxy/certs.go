package proxy

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"runtime"
	"slices"
	"sync"
	"weak"
)

// certs has peers that show the same certificates share them in memory, where
// crypto/tls makes a server parse and keep them for each connection: some KiB,
// which is most of a silent one. What nobody has any more goes.
type certs struct {
	mu     sync.Mutex
	known  map[[sha256.Size]byte]weak.Pointer[x509.Certificate]
	states map[stateKey]weak.Pointer[tls.ConnectionState]
}

// stateKey is all of a handshake that is asked for later.
type stateKey struct {
	chain           [sha256.Size]byte
	version, suite  uint16
	curve           tls.CurveID
	protocol, named string
	resumed         bool
}

func newCerts() *certs {
	return &certs{
		known:  make(map[[sha256.Size]byte]weak.Pointer[x509.Certificate]),
		states: make(map[stateKey]weak.Pointer[tls.ConnectionState]),
	}
}

// share replaces the certificates of a handshake by equal ones that are there
// already.
func (c *certs) share(cs *tls.ConnectionState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	chain := make([]*x509.Certificate, len(cs.PeerCertificates))
	for i, cert := range cs.PeerCertificates {
		chain[i] = c.one(cert)
	}
	cs.PeerCertificates = chain
}

// one is for callers that hold mu.
func (c *certs) one(cert *x509.Certificate) *x509.Certificate {
	key := sha256.Sum256(cert.Raw)
	if known := c.known[key].Value(); known != nil && bytes.Equal(known.Raw, cert.Raw) {
		return known
	}
	c.known[key] = weak.Make(cert)
	runtime.AddCleanup(cert, func(key [sha256.Size]byte) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.known[key].Value() == nil { // else there is another by now
			delete(c.known, key)
		}
	}, key)
	return cert
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.states[key].Value(); known != nil {
		return known
	}
	s := &tls.ConnectionState{
		Version: cs.Version, HandshakeComplete: cs.HandshakeComplete, DidResume: cs.DidResume, CipherSuite: cs.CipherSuite, CurveID: cs.CurveID,
		NegotiatedProtocol: cs.NegotiatedProtocol, ServerName: cs.ServerName, PeerCertificates: slices.Clone(cs.PeerCertificates),
	}
	c.states[key] = weak.Make(s)
	runtime.AddCleanup(s, func(key stateKey) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.states[key].Value() == nil {
			delete(c.states, key)
		}
	}, key)
	return s
}
