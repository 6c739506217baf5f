// Package control is the control plane: it watches the Kubernetes API, builds
// World after World from it, and serves each proxy its own configuration (xDS)
// and its certificates (Istio's CSR service) on one port. It joins edges and
// decides nothing itself: source reads, policy decides, compile translates.
//
// [New], then [Control.Run].
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"k8s.io/client-go/dynamic"

	"hasp/ca"
	"hasp/ca/csr"
	"hasp/compile"
	"hasp/mesh"
	"hasp/source"
	"hasp/world"
	"hasp/xds/server"
)

// Account is the service account whose identity the control plane has, in the
// root namespace, as in Istio.
const Account = "istiod"

// Changes that come in a burst (an apply of several objects, a rollout) make
// one generation: it is built when none came for quiet, or after patience.
const (
	quiet    = 3 * time.Millisecond
	patience = 50 * time.Millisecond
)

// Config of a control plane.
type Config struct {
	Client dynamic.Interface
	// CA signs for the workloads. Nil when a foreign authority does: then the
	// control plane has no certificate service, and Own and TrustDomain say who
	// it is.
	CA          *ca.CA
	Own         Credentials // the control plane's; nil has CA issue them
	TrustDomain string      // empty is the CA's
	// Tokens are the join tokens that a new workload may show, Verifiers what
	// else proves one; both may be nil.
	Tokens    *ca.Tokens
	Verifiers []csr.Verifier
	// Signed is told the outcome of every certificate request; nil tells nobody.
	Signed func(codes.Code)
	// StatusByLeader leaves the statuses of objects to whoever calls
	// WriteStatus, since of several control planes one does.
	StatusByLeader bool
	// Others is how far the other control planes' proxies are, for statuses and for
	// GET /facts; nil when there are none. It may be called at once.
	Others func(context.Context) []Progress
	// Listeners serve xDS and CSRs (15012); Run closes them.
	Listeners []net.Listener
	// StreamAge is how long a proxy stays before it is asked to connect anew, to
	// whichever control plane then answers; 0 is for ever.
	StreamAge time.Duration
	// Ledger keeps what the book of facts must not forget; nil keeps nothing.
	Ledger Ledger
	// LedgerDays is how long it is kept after it was last seen; 0 is 30.
	LedgerDays int
	// PassOn is given what proxies report to this control plane, for the others. It
	// must not wait, and nobody changes the report any more. Nil when there are none.
	PassOn func(*mesh.Report)
	// Processes are those of this machine that have an address of the mesh's network
	// for themselves, by it: what comes from there is named so.
	Processes map[netip.Addr]string
	// Witness looks at workloads from inside for Verify; nil where nobody can.
	Witness Witness
	// Scope is how much of the cluster is read; the zero value is all of it.
	Scope source.Scope
	// OnDemand is from how many services on (or four times as many workloads) a proxy
	// is told only of what it asks for; 0 is 500, and less than 0 never.
	OnDemand int
	Log      *slog.Logger
}

// Credentials are a certificate with its key and the roots that peers are
// verified against. They may change at any time.
type Credentials = server.Credentials

// Control is a control plane.
type Control struct {
	cfg     Config
	watcher *source.Watcher
	builder *source.Builder // of rebuild alone
	xds     *server.Server
	dirty   chan struct{}
	current atomic.Pointer[snapshot]
	timings timings

	facts       *facts
	timeline    timeline
	listeners   atomic.Int64 // of events
	verifying   sync.Mutex
	foretelling chan struct{} // has a place for whoever foretells
	ended       chan struct{} // Run ends: listeners must not hold up an HTTP server
	ready       chan struct{}
	rebuilt     chan struct{} // there is a new World
	told        chan struct{} // what objects' statuses say may have changed

	mu      sync.Mutex
	firstAt time.Time // first change not yet in a World
}

// snapshot is a World with what went wrong on the way to it.
type snapshot struct {
	world *world.World
	// read are the objects that it was built from, configured those of them that say
	// something to the mesh.
	read       func() *source.Objects
	configured *source.Objects
	compiler   *compile.Compiler
	whole      *whole // encodes what is told whole
	onDemand   bool
	changes    []*compile.Changes // of the last generations, this one's last
	problems   []source.Problem
	// unserved is what gateways leave out.
	unserved []compile.Diagnostic
	// objects are those whose status says what became of them.
	objects []statusObject
}

// New prepares a control plane.
func New(cfg Config) (*Control, error) {
	if cfg.CA == nil && (cfg.Own == nil || cfg.TrustDomain == "") {
		return nil, errors.New("control: without an authority it needs credentials and a trust domain")
	}
	if cfg.TrustDomain == "" {
		cfg.TrustDomain = cfg.CA.TrustDomain().Name()
	}
	c := &Control{cfg: cfg, foretelling: make(chan struct{}, 1), dirty: make(chan struct{}, 1), ready: make(chan struct{}),
		rebuilt: make(chan struct{}, 1), told: make(chan struct{}, 1),
		facts: newFacts(cfg.LedgerDays, cfg.Processes), ended: make(chan struct{}), builder: source.NewBuilder(cfg.TrustDomain)}
	openLedger(cfg.Ledger, c.facts, cfg.Log)
	var err error
	c.watcher, err = source.NewWatcher(cfg.Client, cfg.Scope, cfg.Log, c.changed)
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	c.xds, err = server.New(server.Config{
		Source: c, Reports: c.Report, MayReport: c.MayReport, Gone: c.Gone, Relays: c.relays, StreamAge: cfg.StreamAge, Log: cfg.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	return c, nil
}

// Ready is closed when the first World was built.
func (c *Control) Ready() <-chan struct{} { return c.ready }

// World is the current snapshot, nil before Ready.
func (c *Control) World() *world.World {
	if s := c.current.Load(); s != nil {
		return s.world
	}
	return nil
}

// Run serves until ctx ends, and returns after everything it started has.
func (c *Control) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { c.watcher.Run(ctx); return nil })
	g.Go(func() error { return c.build(ctx) })
	g.Go(func() error { return c.serve(ctx) })
	g.Go(func() error { return c.followProxies(ctx) })
	g.Go(func() error { return c.keepFacts(ctx) })
	if !c.cfg.StatusByLeader {
		g.Go(func() error { return c.WriteStatus(ctx) })
	}
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}

// changed is the informers' signal.
func (c *Control) changed() {
	c.mu.Lock()
	if c.firstAt.IsZero() {
		c.firstAt = time.Now()
	}
	c.mu.Unlock()
	signal(c.dirty)
}

// build makes a World of every burst of changes.
func (c *Control) build(ctx context.Context) error {
	if err := c.watcher.Synced(ctx); err != nil {
		return nil // ctx ended
	}
	c.rebuild()
	close(c.ready)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.dirty:
		}
		c.settle(ctx)
		c.rebuild()
	}
}

// settle waits for the end of a burst.
func (c *Control) settle(ctx context.Context) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		calm := time.NewTimer(quiet)
		select {
		case <-c.dirty:
			calm.Stop()
		case <-calm.C:
			return
		case <-deadline.C:
			calm.Stop()
			return
		case <-ctx.Done():
			calm.Stop()
			return
		}
	}
}

// rebuild swaps in the next World, unless nothing in it differs.
func (c *Control) rebuild() {
	c.mu.Lock()
	since := c.firstAt
	c.firstAt = time.Time{}
	c.mu.Unlock()

	c.watcher.Feed(c.builder)
	built := c.builder.Build()
	w, problems := built.World, built.Problems
	var written []statusObject
	configured := true // something was
	next := uint64(1)
	old := c.current.Load()
	if old != nil && old.configured == built.Configured {
		written, configured = old.objects, false
	} else {
		written = statusObjects(built.Configured)
	}
	if old != nil {
		w.Generation = old.world.Generation
		if old.world.Equal(w) && slices.Equal(old.problems, problems) {
			again := *old
			again.objects, again.read, again.configured = written, built.Objects, built.Configured
			c.current.Store(&again)
			if configured && c.timeline.compare(built.Configured, w.Generation, time.Now()) {
				signal(c.rebuilt)
				c.facts.worldChanged(old.world)
			}
			signal(c.told)
			return
		}
		next = old.world.Generation + 1
	}
	w.Generation = next
	for _, p := range problems {
		c.cfg.Log.Warn("not used", slog.String("object", p.Object.String()), slog.String("why", p.Message))
	}
	s := c.follow(w)
	unserved := unservedBy(w, s.compiler)
	for _, d := range unserved {
		c.cfg.Log.Warn("not served", slog.String("object", d.Object.String()), slog.String("why", d.Message))
	}
	s.read, s.configured, s.problems, s.unserved, s.objects = built.Objects, built.Configured, problems, unserved, written
	c.current.Store(s)
	c.timings.built(next, since, time.Now())
	if configured {
		c.timeline.compare(built.Configured, next, time.Now())
	}
	c.facts.worldChanged(w)
	c.xds.Notify(next)
	signal(c.rebuilt)
}

// unservedBy the gateways of a World, each thing once however many gateways say
// it.
func unservedBy(w *world.World, compiler *compile.Compiler) []compile.Diagnostic {
	var out []compile.Diagnostic
	for _, wl := range w.GatewayWorkloads() {
		_, diagnostics := compiler.For(wl)
		for _, d := range diagnostics {
			if !slices.Contains(out, d) {
				out = append(out, d)
			}
		}
	}
	return out
}

// signal without waiting: one that is not yet taken says it all.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ConfigFor is what the xDS server asks for a proxy: the configuration of its
// own workload, and only if its certificate is that workload's.
func (c *Control) ConfigFor(node string, peer spiffeid.ID) (*mesh.ProxyConfig, error) {
	s, wl, err := c.admit(node, peer)
	if err != nil {
		return nil, err
	}
	cfg, _ := s.compiler.For(wl)
	return cfg, nil
}

// admit finds the workload whose configuration peer may have.
func (c *Control) admit(node string, peer spiffeid.ID) (*snapshot, *mesh.Workload, error) {
	s := c.current.Load()
	if s == nil {
		return nil, nil, errUnread
	}
	w := s.world
	wl := w.Workload(node)
	if wl == nil {
		return nil, nil, fmt.Errorf("%w: there is no workload %s", server.ErrNotFound, node)
	}
	if id := wl.Identity(w.Mesh.TrustDomain); id != peer.String() {
		return nil, nil, fmt.Errorf("%w: %s may not have the configuration of %s, whose identity is %s", server.ErrDenied, peer, node, id)
	}
	if wl.Role == mesh.RoleNone {
		return nil, nil, fmt.Errorf("%w: workload %s is outside the mesh (no sidecar)", server.ErrDenied, node)
	}
	return s, wl, nil
}

// Addresses are the virtual addresses of the services that are not Kubernetes'
// own (ServiceEntry hosts) under a name, for the DNS of the sandbox.
func (c *Control) Addresses(name string) []netip.Addr {
	w := c.World()
	if w == nil {
		return nil
	}
	for _, s := range w.Services {
		if s.Resolution != "" && s.Hostname == name {
			return s.Addresses
		}
	}
	return nil
}
