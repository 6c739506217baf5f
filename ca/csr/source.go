package csr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Retries after a failure wait between minWait and maxWait, doubling.
const (
	minWait = 250 * time.Millisecond
	maxWait = 15 * time.Second
)

// SourceConfig is what a Source needs; a mesh.Bootstrap holds most of it.
type SourceConfig struct {
	Target   string      // HOST:PORT of the control plane
	ServerID spiffeid.ID // what the control plane must present
	ID       spiffeid.ID // what the workload expects to be
	Workload string      // NAMESPACE/NAME
	Roots    []byte      // PEM; what verifies the control plane at first
	Token    string      // proves the workload once
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
	roots   *x509.CertPool
	changed chan struct{} // closed and replaced at each change
	renewAt time.Time
	lastErr error

	// due says how long after now a certificate is renewed; tests shorten it.
	due func(now, notAfter time.Time) time.Duration
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
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(cfg.Roots) {
		return nil, errors.New("csr: the roots hold no certificate")
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	return &Source{cfg: cfg, roots: roots, due: halfLife, ready: make(chan struct{}), changed: make(chan struct{})}, nil
}

// Run gets the first certificate and renews it until ctx ends; then it returns
// nil. A valid certificate stays in use whatever happens. Run gives up, with an
// error, only when asking again is useless: the authority refuses the proof and
// there is no valid certificate. Whoever started the proxy then has to start it
// anew, with a new token.
func (s *Source) Run(ctx context.Context) error {
	wait := time.Duration(0)
	failures := 0
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		got, err := s.request(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && s.lost(err):
			return fmt.Errorf("csr: %s can no longer prove itself and needs a new token: %w", s.cfg.ID, err)
		case err != nil:
			failures++
			wait = backoff(failures)
			s.failed(err, wait)
		default:
			failures = 0
			wait = s.take(got, time.Now())
		}
	}
}

// take puts a new certificate in use and says when to renew it.
func (s *Source) take(got *answer, now time.Time) time.Duration {
	wait := max(s.due(now, got.cert.Leaf.NotAfter), minWait)
	s.mu.Lock()
	first := s.cert == nil
	s.cert, s.roots, s.lastErr = got.cert, got.roots, nil
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
	return status.Code(err) == codes.Unauthenticated && (s.cert == nil || time.Now().After(s.cert.Leaf.NotAfter))
}

func (s *Source) failed(err error, wait time.Duration) {
	s.mu.Lock()
	cert := s.cert
	if cert != nil && time.Now().After(cert.Leaf.NotAfter) {
		err = fmt.Errorf("the certificate ended at %s and its token is used up: %w", cert.Leaf.NotAfter.UTC().Format(time.RFC3339), err)
	}
	s.lastErr = err
	s.renewAt = time.Now().Add(wait)
	s.mu.Unlock()
	s.cfg.Log.Warn("no certificate", slog.String("identity", s.cfg.ID.String()), slog.Any("err", err), slog.Duration("retry", wait))
}

// halfLife is half of what is left, give or take a tenth, so that workloads
// that started together do not renew together.
func halfLife(now, notAfter time.Time) time.Duration {
	half := notAfter.Sub(now) / 2
	return half + time.Duration((rand.Float64()-0.5)*0.2*float64(half))
}

// backoff is how long to wait after the nth failure in a row: doubling, with
// up to a fifth of it taken off at random.
func backoff(n int) time.Duration {
	d := maxWait
	if n < 8 {
		d = min(minWait<<(n-1), maxWait)
	}
	return d - time.Duration(rand.Int64N(int64(d)/5))
}
