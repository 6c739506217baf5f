package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/api"
	"hasp/ca"
	"hasp/ca/csr"
	"hasp/control"
	"hasp/source"
	"hasp/world"
)

// Opening the authority is tried again between minRetry and maxRetry, doubling.
const (
	minRetry = 250 * time.Millisecond
	maxRetry = 10 * time.Second
)

// streamAge is how long a proxy stays with one replica before it connects anew;
// else all would be with one after the other was away. Istio's
// --keepaliveMaxServerConnectionAge is the same.
const streamAge = 30 * time.Minute

// work is what serves once the mesh's settings and authority are known.
type work struct {
	control *control.Control
	views   http.Handler // of the facts
	// signer is the mesh's authority; nil when a foreign one signs.
	signer *authority
	// foreign asks that one for our own certificate.
	foreign  *csr.Source
	external string // its address
	// webhooks is the authority of the webhooks' certificate: signer, or one
	// of our own that only the API server knows.
	webhooks *authority
	inject   *injection
	passing  *passing
	own      control.Credentials // on the port of xDS
	hook     control.Credentials // on the port of the webhooks
}

// work opens the authority, then serves until serving ends. The leader's duties
// end with ctx, before the drain, so that another replica has them at once.
func (p *plane) work(ctx, serving context.Context) error {
	w, err := p.open(serving)
	if w == nil {
		return err
	}
	g, serving := errgroup.WithContext(serving)
	duties := []duty{w.control.WriteStatus, w.webhooks.keep,
		(&bundles{client: p.client, bundle: w.webhooks.bundle, changed: w.webhooks.Changed, log: p.cfg.Log}).keep}
	if w.signer != nil {
		// A foreign authority distributes its roots itself.
		duties = append(duties, (&roots{client: p.client, bundle: w.signer.bundle, changed: w.signer.Changed, log: p.cfg.Log}).distribute)
	} else {
		g.Go(func() error { return w.foreign.Run(serving) })
	}
	p.working.Store(w)
	g.Go(func() error { return w.control.Run(serving) })
	g.Go(func() error { return w.webhooks.follow(serving) })
	g.Go(func() error { return w.passing.follow(serving) })
	g.Go(func() error { return w.inject.follow(serving) })
	g.Go(func() error { return p.serveWebhooks(serving, w) })
	g.Go(func() error {
		leading, stop := context.WithCancel(ctx)
		defer stop()
		defer context.AfterFunc(serving, stop)() // something failed
		return p.lead(leading, duties...)
	})
	return g.Wait()
}

// open tries until it can, or ctx ends: then there is no work and no error. What
// is in the way may be the user's to mend (a cacerts that cannot sign), and
// that takes no restart.
func (p *plane) open(ctx context.Context) (*work, error) {
	for wait := minRetry; ; wait = min(2*wait, maxRetry) {
		w, err := p.prepare(ctx)
		if err == nil {
			return w, nil
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		p.failed.Store(&err)
		p.cfg.Log.Error("not started", slog.Any("error", err), slog.Duration("retry", wait))
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, nil
		case <-timer.C:
		}
	}
}

func (p *plane) prepare(ctx context.Context) (*work, error) {
	td, err := p.trustDomain(ctx)
	if err != nil {
		return nil, err
	}
	id, err := spiffeid.FromString(control.Identity(td.Name()))
	if err != nil {
		return nil, fmt.Errorf("identity of the control plane: %w", err)
	}
	w := &work{inject: &injection{client: p.client, trustDomain: td.Name(), log: p.cfg.Log, event: p.warn}}
	cfg := control.Config{
		Client: p.dynamic, TrustDomain: td.Name(), StatusByLeader: true, StreamAge: streamAge,
		// Gateways' certificates are beside the gateways, which are here.
		Scope:      source.Scope{Secrets: []string{Namespace}},
		LedgerDays: p.cfg.LedgerDays, OnDemand: p.cfg.OnDemand,
		Log: p.cfg.Log,
	}
	w.passing = &passing{
		self: p.cfg.Pod, world: func() *world.World { return w.control.World() }, anew: func(ctx context.Context) { w.control.ReportAnew(ctx) },
		tls: func() *tls.Config { return replicaTLS(w.own, id) }, log: p.cfg.Log, to: map[netip.Addr]*passingTo{},
	}
	cfg.PassOn = w.passing.tell
	if port, ok := p.cfg.Listeners.XDS.Addr().(*net.TCPAddr); ok {
		w.passing.port = port.Port
	}
	if p.cfg.Ledger != "" {
		cfg.Ledger = control.LedgerFile(p.cfg.Ledger)
	}
	if port, ok := p.cfg.Listeners.Metrics.Addr().(*net.TCPAddr); ok {
		cfg.Others = (&others{
			self: p.cfg.Pod, port: port.Port, world: func() *world.World { return w.control.World() }, log: p.cfg.Log, now: time.Now,
		}).ask
	}
	names := ServingNames()
	if p.cfg.External == nil {
		if w.signer, err = p.authority(ctx, td, GivenSecret, OwnSecret); err != nil {
			return nil, err
		}
		// One certificate for both ports: foreign agents look for the names too.
		own, err := w.signer.ca.Server(id, names...)
		if err != nil {
			return nil, err
		}
		w.webhooks, w.own, w.hook = w.signer, own, own
		cfg.CA, cfg.Signed = w.signer.ca, p.metrics.certificate
		cfg.Verifiers = []csr.Verifier{tokens{client: p.client, trustDomain: td.Name(), reviewed: p.metrics.token}}
	} else {
		if w.foreign, err = p.cfg.External.source(id, p.cfg); err != nil {
			return nil, err
		}
		if w.webhooks, err = p.authority(ctx, td, "", WebhookSecret); err != nil {
			return nil, err
		}
		if w.hook, err = w.webhooks.ca.Server(id, names...); err != nil {
			return nil, err
		}
		w.own, w.external = w.foreign, p.cfg.External.Address
	}
	cfg.Own, cfg.Listeners = w.own, []net.Listener{p.cfg.Listeners.XDS}
	if w.control, err = control.New(cfg); err != nil {
		return nil, err
	}
	w.views = w.control.Views()
	return w, nil
}

// authority opens the one that is kept in one of two Secrets.
func (p *plane) authority(ctx context.Context, td spiffeid.TrustDomain, given, own string) (*authority, error) {
	a := &authority{
		client: p.client, given: given, own: own,
		cfg: ca.Config{TrustDomain: td, LeafTTL: p.cfg.CertLifetime}, log: p.cfg.Log, event: p.warn,
		gone: make(chan struct{}, 1),
	}
	return a, a.open(ctx)
}

// trustDomain is that of the mesh-wide settings, which are in the API. It holds
// as long as the control plane runs.
func (p *plane) trustDomain(ctx context.Context) (spiffeid.TrustDomain, error) {
	settings := api.DefaultMeshConfig()
	m, err := p.client.CoreV1().ConfigMaps(settings.RootNamespace).Get(ctx, api.MeshConfigName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return spiffeid.TrustDomain{}, fmt.Errorf("read the mesh's settings: %w", err)
	default:
		if settings, err = api.ParseMeshConfig(m.Data[api.MeshConfigKey]); err != nil {
			return spiffeid.TrustDomain{}, fmt.Errorf("the mesh's settings, ConfigMap %s/%s: %w", m.Namespace, m.Name, err)
		}
	}
	td, err := spiffeid.TrustDomainFromString(settings.TrustDomain)
	if err != nil {
		return td, fmt.Errorf("the mesh's settings: trustDomain: %w", err)
	}
	return td, nil
}

// ServingNames are the DNS names that the API server and agents of other meshes
// know the control plane by.
func ServingNames() []string {
	const svc = Service + "." + Namespace
	return []string{svc + ".svc", svc + ".svc." + api.DomainSuffix, svc}
}

// authorityName is for people.
func (w *work) authorityName() string {
	if w.signer != nil {
		return "Secret " + Namespace + "/" + w.signer.inUse()
	}
	return w.external
}
