package csr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// SourceConfig is what a Source needs; a mesh.Bootstrap holds most of it.
type SourceConfig struct {
	Target   string      // HOST:PORT of the control plane
	ServerID spiffeid.ID // what the control plane must present
	ID       spiffeid.ID // what the workload expects to be
	Workload string      // NAMESPACE/NAME
	Roots    []byte      // PEM; what verifies the control plane at first
	Token    string      // proves the workload once
	// RootsFile and TokenFile stand for Roots and Token where somebody keeps
	// them fresh (a kubelet: a ConfigMap and a projected ServiceAccount token).
	// They need not be there yet. The roots are read for each connection and
	// every few seconds, and peers are verified against them too; the token is
	// read for each request that it has to prove.
	RootsFile, TokenFile string
	// CA is HOST:PORT of the certificate service when it is not the control
	// plane, and CAName the DNS name it must present then, under the same roots:
	// cert-manager's istio-csr is one. It is asked by token alone.
	CA, CAName string
	// Lifetime asked for; 0 leaves it to the authority.
	Lifetime time.Duration
	// Dial opens the TCP connection; nil is a plain dialer. (A sidecar marks
	// its sockets so that capture lets them pass.)
	Dial func(ctx context.Context, address string) (net.Conn, error)
	Log  *slog.Logger
}

// Source holds a workload's SVID and keeps it fresh. The private key exists in
// memory only and every certificate has a new one.
type Source struct {
	cfg   SourceConfig
	ready chan struct{} // closed with the first certificate

	mu      sync.Mutex
	cert    *tls.Certificate // nil before the first
	trust   trust
	changed chan struct{} // closed and replaced at each change
	renewAt time.Time
	lastErr error

	// news holds something when the roots' file changed: the certificate in use
	// may be one that nobody accepts any more, so a new one is asked for.
	news chan struct{}

	// due says how long after now a certificate is renewed, look how often the
	// roots' file is read and spread how soon after its change a certificate is
	// renewed; tests shorten them.
	due          func(now, notAfter time.Time) time.Duration
	look, spread time.Duration
	now          func() time.Time // time.Now; tests do not wait for the end of a certificate
}

// Status is what there is to tell about a Source.
type Status struct {
	ID       spiffeid.ID
	NotAfter time.Time // zero before the first certificate
	RenewAt  time.Time
	// Err is why the last request failed, nil when it did not.
	Err error
}

// NewSource checks the configuration. Nothing is asked before Run.
func NewSource(cfg SourceConfig) (*Source, error) {
	if cfg.Target == "" || cfg.ID.IsZero() || cfg.ServerID.IsZero() || cfg.Log == nil {
		return nil, errors.New("csr: a source needs a target, the two identities and a log")
	}
	if cfg.CA != "" && (cfg.CAName == "" || cfg.Token == "" && cfg.TokenFile == "") {
		return nil, fmt.Errorf("csr: to ask %s for certificates, the name it presents and a token are needed", cfg.CA)
	}
	s := &Source{
		cfg: cfg, ready: make(chan struct{}), changed: make(chan struct{}), news: make(chan struct{}, 1),
		due: halfLife, look: lookEvery, spread: spread, now: time.Now,
	}
	if cfg.RootsFile == "" {
		if s.trust.set(cfg.Roots, nil); !x509.NewCertPool().AppendCertsFromPEM(cfg.Roots) {
			return nil, errors.New("csr: the roots hold no certificate")
		}
	}
	if cfg.Dial == nil {
		s.cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	return s, nil
}

// Run gets the first certificate and renews it until ctx ends; then it returns
// nil. A valid certificate stays in use whatever happens.
//
// Run gives up, with an error, only when asking again is useless: the authority
// refuses a Token and there is no valid certificate. Whoever started the proxy
// then has to start it anew, with a new token. With a TokenFile there will be
// another one, so Run goes on asking.
func (s *Source) Run(ctx context.Context) error {
	renew := time.NewTimer(0)
	defer renew.Stop()
	look := time.NewTicker(s.look)
	defer look.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			_ = s.readRoots() // asking says what is wrong
			continue
		case <-s.news:
			soon := time.Duration(0)
			if _, err := s.Certificate(); err == nil {
				soon = rand.N(s.spread)
			}
			renew.Reset(soon)
			continue
		case <-renew.C:
		}
		got, err := s.request(ctx, s.byToken(failures))
		wait := time.Duration(0)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && s.lost(err):
			return fmt.Errorf("csr: %s can no longer prove itself and needs a new token: %w", s.cfg.ID, err)
		case err != nil:
			failures++
			wait = retry(failures, err)
			s.failed(err, wait)
		default:
			failures = 0
			wait = s.take(got, s.now())
		}
		renew.Reset(wait)
	}
}

// byToken says what proves the workload next: its certificate while there is a
// valid one. But an authority that was replaced knows no certificate of the one
// before it, and one that fails to verify tokens may still know a certificate,
// so whoever has both takes turns after a failure.
func (s *Source) byToken(failures int) bool {
	_, err := s.Certificate()
	switch {
	case err != nil, s.cfg.CA != "":
		return true
	case s.cfg.TokenFile == "":
		return false // a Token is good once
	}
	return failures%2 == 1
}

// take puts a new certificate in use and says when to renew it.
func (s *Source) take(got *answer, now time.Time) time.Duration {
	wait := max(s.due(now, got.cert.Leaf.NotAfter), minWait)
	s.mu.Lock()
	first := s.cert == nil
	s.cert, s.lastErr = got.cert, nil
	s.trust.set(got.roots, s.trust.filed)
	s.renewAt = now.Add(wait)
	close(s.changed)
	s.changed = make(chan struct{})
	if first {
		close(s.ready)
	}
	s.mu.Unlock()
	s.cfg.Log.Info("certificate received", slog.String("identity", s.cfg.ID.String()),
		slog.Time("until", got.cert.Leaf.NotAfter), slog.Time("renew", now.Add(wait)))
	return wait
}

// lost reports whether asking again is useless: the authority does not accept
// the proof, and there is no valid certificate to prove the identity by.
func (s *Source) lost(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg.TokenFile == "" && status.Code(err) == codes.Unauthenticated && (s.cert == nil || s.now().After(s.cert.Leaf.NotAfter))
}

// failed takes an error down. That a file is not there yet is said once.
func (s *Source) failed(err error, wait time.Duration) {
	s.mu.Lock()
	if cert := s.cert; cert != nil && s.now().After(cert.Leaf.NotAfter) {
		used := ""
		if s.cfg.TokenFile == "" {
			used = " and its token is used up"
		}
		err = fmt.Errorf("the certificate ended at %s%s: %w", cert.Leaf.NotAfter.UTC().Format(time.RFC3339), used, err)
	}
	said := errors.Is(err, fs.ErrNotExist) && s.lastErr != nil && s.lastErr.Error() == err.Error()
	s.lastErr = err
	s.renewAt = s.now().Add(wait)
	s.mu.Unlock()
	if !said {
		s.cfg.Log.Warn("no certificate", slog.String("identity", s.cfg.ID.String()), slog.Any("err", err), slog.Duration("retry", wait))
	}
}
