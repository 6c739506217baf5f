// Package cluster runs the control plane on a real Kubernetes: one of several
// replicas, with the authority in a Secret, ServiceAccount tokens as proof of
// who asks for a certificate, the admission webhooks, and the duties that only
// the leader has. What a mesh on one machine does the same way is in package
// control; package local is this package's twin there.
//
// [Run] is the whole of it, [Client] finds the API server, and [Permissions] is
// what the ServiceAccount must be allowed.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"hasp/ca"
)

// Names of the control plane's own objects. They are Istio's, so that what
// points at Istio's control plane finds hasp's.
const (
	Namespace      = "istio-system"
	Service        = "istiod"
	Lease          = "hasp-leader"
	GivenSecret    = "cacerts"         // the user's authority, which wins
	OwnSecret      = "istio-ca-secret" // the authority we make
	WebhookSecret  = "hasp-webhook-ca" // ours for webhooks, where a foreign authority signs for the mesh
	RootsConfigMap = "istio-ca-root-cert"
	RootsKey       = "root-cert.pem"
	// TokenAudience is whom ServiceAccount tokens must be for, as Istio's.
	TokenAudience = "istio-ca"
)

// MutatingWebhooks and ValidatingWebhooks are the names of the configurations
// whose caBundle the leader keeps.
const (
	MutatingWebhooks   = "istio-sidecar-injector"
	ValidatingWebhooks = "istio-validator-" + Namespace
)

// Listeners are the ports of a control plane, made by the caller; Run closes
// them.
type Listeners struct {
	XDS     net.Listener // 15012: xDS and certificates, TLS
	Webhook net.Listener // 15017: /inject and /validate, TLS
	Health  net.Listener // 15021: /healthz/ready and /healthz/live
	Metrics net.Listener // 15014: /metrics
	Admin   net.Listener // 15000, on the loopback interface: /status, the views, /debug/pprof
}

// close what is open still: a port is served only once there is a certificate.
func (l Listeners) close() {
	for _, ln := range []net.Listener{l.XDS, l.Webhook, l.Health, l.Metrics, l.Admin} {
		if ln != nil {
			ln.Close()
		}
	}
}

// Config of one replica.
type Config struct {
	API       *rest.Config // as which ServiceAccount, and where
	Pod       string       // this replica's name, unique among them
	Listeners Listeners
	// External is the authority that signs for the mesh; nil is our own.
	External *External
	// CertLifetime of workloads; 0 is 24 h.
	CertLifetime time.Duration
	// Drain is how long a replica that stops goes on serving after it said it
	// is not ready, so that nobody is sent to it any more; 0 is DefaultDrain.
	Drain time.Duration
	// Ledger is the file of who talked to whom, or empty; LedgerDays is how long
	// that is remembered, 0 is 30.
	Ledger     string
	LedgerDays int
	// OnDemand is control.Config's.
	OnDemand int
	Log      *slog.Logger
}

// DefaultDrain is longer than kube-proxies and the API server take to hear that
// an endpoint is gone.
const DefaultDrain = 3 * time.Second

// plane is one replica.
type plane struct {
	cfg     Config
	client  kubernetes.Interface
	dynamic dynamic.Interface
	started time.Time
	metrics *metrics

	leader  atomic.Pointer[string] // the pod that leads, as far as is known
	working atomic.Pointer[work]   // nil until the authority is open
	failed  atomic.Pointer[error]  // why it is not open yet
	leaving atomic.Bool            // drains
}

// Run serves until ctx ends, says then that it is not ready, goes on for the
// drain time, and returns after everything it started has. What the API server
// does not have yet, or an authority that cannot sign, is waited for, and
// readiness tells what it waits for.
func Run(ctx context.Context, cfg Config) error {
	defer cfg.Listeners.close()
	p, err := newPlane(cfg)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, serving := errgroup.WithContext(serving)
	g.Go(func() error {
		defer stop()
		p.drain(ctx, serving)
		return nil
	})
	g.Go(func() error { return serveHTTP(serving, cfg.Listeners.Health, p.health()) })
	g.Go(func() error { return serveHTTP(serving, cfg.Listeners.Metrics, p.metrics.handler(p.progress)) })
	g.Go(func() error { return serveHTTP(serving, cfg.Listeners.Admin, p.admin()) })
	g.Go(func() error { return p.work(ctx, serving) })
	if err := g.Wait(); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

func newPlane(cfg Config) (*plane, error) {
	l := cfg.Listeners
	if cfg.API == nil || cfg.Pod == "" || cfg.Log == nil {
		return nil, errors.New("an API server, the pod's name and a log are needed")
	}
	if l.XDS == nil || l.Webhook == nil || l.Health == nil || l.Metrics == nil || l.Admin == nil {
		return nil, errors.New("all five listeners are needed")
	}
	if cfg.CertLifetime != 0 && cfg.CertLifetime < ca.MinLeafTTL {
		return nil, fmt.Errorf("certificate lifetime %v is shorter than %v", cfg.CertLifetime, ca.MinLeafTTL)
	}
	if cfg.Drain == 0 {
		cfg.Drain = DefaultDrain
	}
	p := &plane{cfg: cfg, started: time.Now().UTC().Truncate(time.Second)}
	var err error
	if p.client, err = kubernetes.NewForConfig(cfg.API); err != nil {
		return nil, err
	}
	if p.dynamic, err = dynamic.NewForConfig(cfg.API); err != nil {
		return nil, err
	}
	p.metrics = newMetrics(prometheus.NewRegistry(), p)
	return p, nil
}

// drain waits for the end of ctx, then for the drain time.
func (p *plane) drain(ctx, serving context.Context) {
	select {
	case <-ctx.Done():
	case <-serving.Done():
		return
	}
	p.leaving.Store(true)
	p.cfg.Log.Info("stopping", slog.Duration("drain", p.cfg.Drain))
	timer := time.NewTimer(p.cfg.Drain)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-serving.Done():
	}
}
