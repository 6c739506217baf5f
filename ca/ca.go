// Package ca is the certificate authority of the mesh: a root, an intermediate
// that signs X.509-SVIDs (SPIFFE X509-SVID), and the single-use tokens a new
// workload proves itself with.
//
// Start with [Load]: it opens the directory that holds the authority, creating
// one of its own when the directory is empty. On a cluster the files are the
// data of a Secret: [Complete] makes them, [Open] signs with them and
// [CA.Replace] follows their changes. [CA.Sign] answers a certificate
// request, [CA.Server] is the control plane's own identity, [Tokens] keeps who
// may ask once. The gRPC front is package csr.
//
// The directory has the layout of Istio's "cacerts" Secret, so that an
// intermediate of another authority is put in place by writing its files:
//
//	root-cert.pem   roots that verifiers trust; several while a root rotates
//	cert-chain.pem  the intermediate, and what leads from it to a root
//	ca-cert.pem     the intermediate
//	ca-key.pem      its key
//	root-key.pem    our own root's key; absent when the root is somebody else's
package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Lifetimes that Config's zero values stand for, and the shortest leaf.
const (
	DefaultRootTTL         = 10 * 365 * 24 * time.Hour
	DefaultIntermediateTTL = 365 * 24 * time.Hour
	DefaultLeafTTL         = 24 * time.Hour
	MinLeafTTL             = 30 * time.Second
)

// backdate lets a verifier whose clock is a little late accept a new leaf.
const backdate = time.Minute

// Config says where the authority lives and how long its certificates do.
type Config struct {
	Dir         string // created with mode 0700 when missing; for Load only
	TrustDomain spiffeid.TrustDomain

	RootTTL         time.Duration // of a root we create; 0 is DefaultRootTTL
	IntermediateTTL time.Duration // of an intermediate we create; 0 is DefaultIntermediateTTL
	// LeafTTL is what a leaf lives when the request names no lifetime, and at
	// most. 0 is DefaultLeafTTL; less than MinLeafTTL is an error.
	LeafTTL time.Duration

	Now func() time.Time // nil is time.Now
}

// CA signs SVIDs. Its methods may be called from many goroutines.
type CA struct {
	cfg    Config
	reload sync.Mutex // one Reload or Replace at a time
	issuer atomic.Pointer[issuer]
}

// Load opens the authority in cfg.Dir. An empty directory gets a new root and
// intermediate; an intermediate of our own root past half its life is renewed.
// What it finds must be able to sign: the key matches, the chain ends in one of
// the roots, and a leaf signed on trial verifies.
func Load(cfg Config) (*CA, error) {
	if cfg.Dir == "" {
		return nil, errors.New("ca: no directory for the authority is set")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("ca: make the directory of the authority: %w", err)
	}
	c := &CA{cfg: cfg}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Open is Load for files that somebody else keeps: they must be complete (see
// [Complete]), cfg.Dir is not read, and nothing is written.
func Open(cfg Config, files Files) (*CA, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	c := &CA{cfg: cfg}
	if err := c.Replace(files); err != nil {
		return nil, err
	}
	return c, nil
}

// Reload reads the directory of Load again, renewing our own intermediate if it
// is due. On an error the authority goes on signing with what it had.
func (c *CA) Reload() error {
	c.reload.Lock()
	defer c.reload.Unlock()
	d := dir(c.cfg.Dir)
	if err := ensure(d, c.cfg); err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	return c.take(d)
}

// Replace signs with these files from now on. On an error the authority goes on
// signing with what it had.
func (c *CA) Replace(files Files) error {
	c.reload.Lock()
	defer c.reload.Unlock()
	return c.take(files)
}

// take swaps in what a store holds. The caller holds reload.
func (c *CA) take(s store) error {
	is, err := loadIssuer(s, c.cfg)
	if err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	c.issuer.Store(is)
	return nil
}

// TrustDomain is the one the authority signs for.
func (c *CA) TrustDomain() spiffeid.TrustDomain { return c.cfg.TrustDomain }

// Bundle is the roots in PEM, as root-cert.pem holds them.
func (c *CA) Bundle() []byte { return c.issuer.Load().bundle }

// Roots is the bundle as a pool. The caller does not change it.
func (c *CA) Roots() *x509.CertPool { return c.issuer.Load().roots }

// Expiry is when the intermediate ends, and when the first certificate on its
// way to the root (the root included) does: leaves never live longer than both.
func (c *CA) Expiry() (intermediate, chain time.Time) {
	is := c.issuer.Load()
	return is.cert.NotAfter, is.notAfter
}

func (cfg Config) withDefaults() (Config, error) {
	if cfg.TrustDomain.IsZero() {
		return cfg, errors.New("no trust domain is set")
	}
	if cfg.RootTTL == 0 {
		cfg.RootTTL = DefaultRootTTL
	}
	if cfg.IntermediateTTL == 0 {
		cfg.IntermediateTTL = DefaultIntermediateTTL
	}
	if cfg.LeafTTL == 0 {
		cfg.LeafTTL = DefaultLeafTTL
	}
	if cfg.LeafTTL < MinLeafTTL {
		return cfg, fmt.Errorf("certificate lifetime %v is shorter than %v", cfg.LeafTTL, MinLeafTTL)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return cfg, nil
}
