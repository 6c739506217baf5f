package proxy

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"sync"
	"time"
)

// Identity is where the proxy takes its own certificate and the roots it trusts
// from. It is asked at every handshake, so that a renewal needs no reconnect.
type Identity interface {
	// Certificate is the current X.509-SVID with its chain, key and parsed
	// leaf, or an error that says why there is none yet.
	Certificate() (*tls.Certificate, error)
	// Roots of the mesh, or nil while there are none. Others come as another pool.
	Roots() *x509.CertPool
}

// trust is an Identity that remembers whose certificates were found good.
type trust struct {
	Identity
	proven proven
}

// remembered is what an Identity remembers, nil when it does not.
func remembered(id Identity) *proven {
	if t, ok := id.(*trust); ok {
		return &t.proven
	}
	return nil
}

// maxProven bounds the leaves that are remembered.
const maxProven = 1024

// proven remembers for which leaves a chain to the roots of today was found, and
// when it holds: the same peers come again and again, and looking for the
// chain is a good part of a handshake. That the peer has the key is proven each time.
type proven struct {
	mu    sync.Mutex
	roots *x509.CertPool
	when  map[provenKey]span
}

// span is a time with both its ends.
type span struct{ from, until time.Time }

func (s span) has(t time.Time) bool { return !t.Before(s.from) && !t.After(s.until) }

type provenKey struct {
	leaf [sha256.Size]byte
	use  x509.ExtKeyUsage
}

func (p *proven) holds(leaf *x509.Certificate, roots *x509.CertPool, use x509.ExtKeyUsage, now time.Time) bool {
	if p == nil {
		return false
	}
	key := provenKey{sha256.Sum256(leaf.Raw), use}
	p.mu.Lock()
	defer p.mu.Unlock()
	when, ok := p.when[key]
	return ok && p.roots == roots && when.has(now)
}

func (p *proven) add(leaf *x509.Certificate, roots *x509.CertPool, use x509.ExtKeyUsage, when span) {
	if p == nil {
		return
	}
	key := provenKey{sha256.Sum256(leaf.Raw), use}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.roots != roots || len(p.when) >= maxProven {
		p.roots, p.when = roots, make(map[provenKey]span)
	}
	p.when[key] = when
}
