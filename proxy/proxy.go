// Package proxy is the data plane: it takes the connections of one workload,
// speaks mutual TLS for it, lets in what the policy lets in, and knows every
// connection it carries.
//
// Make one with [New], hand it configurations with [Proxy.Apply] and listeners
// with [Proxy.Run]. The life of a connection is written down in outbound.go and
// inbound.go, how one takes over the TLS connection of another in trunk.go, how it
// waits for what the control plane says on demand in ondemand.go, and what a
// kubelet may ask in plaintext in probe.go. What it was is a row of the connection
// table (table.go), which the access log, the metrics and the admin pages are views
// of. The sums of connections are the ledger (ledger.go), and both are told to the
// control plane by [Proxy.Facts].
package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// Dialer opens the connections that the proxy makes itself. It sets whatever
// mark lets them pass capture. *net.Dialer is one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Config is what a Proxy is made of. Log, OrigDst, Identity and Dialer are
// required.
type Config struct {
	Log *slog.Logger
	// OrigDst is where a captured connection was going before it was redirected
	// to the proxy.
	OrigDst  func(net.Conn) (netip.AddrPort, error)
	Identity Identity
	Dialer   Dialer
	// Directory is asked for what a configuration on demand does not say; nil where
	// there is none.
	Directory Directory
	// Relay moves the bytes. Default: a relay.Fast of the proxy's own.
	Relay relay.Relayer
	// NoTrunks has each connection make a handshake of its own (trunk.go), whatever
	// mesh-wide settings say.
	NoTrunks bool
	// Now is the clock. Default: time.Now.
	Now func() time.Time

	// AccessLog gets one line a connection (and one a request on a gateway);
	// nil for none. Writes are serialized.
	AccessLog io.Writer
	// AccessLogJSON writes the line as JSON instead of text, where mesh-wide
	// settings do not say which.
	AccessLogJSON bool

	// Inherited are listeners that exist already for ports a gateway may be
	// told to serve. The proxy owns them from New on.
	Inherited map[uint16]net.Listener
	// OwnPorts are the ports the proxy itself listens on; a connection whose
	// original destination is one of them would loop and is reset.
	OwnPorts []uint16

	// Probes are the questions of the workload's kubelet, which may come in
	// plaintext also where a port requires mutual TLS (probe.go).
	Probes []mesh.Probe
	// ProbeDoor is the first of the ports where the proxy accepts connections
	// to ports with a TCP probe. Default mesh.ProbeDoor.
	ProbeDoor uint16
	// Listening tells whether anybody listens at an address of the workload's
	// network namespace; nil when nobody can tell. A port where nobody does is
	// refused before the TLS handshake, so that the client's proxy can go to
	// another endpoint.
	Listening func(netip.AddrPort) (bool, error)
	// Addresses are those of the workload, asked for with each look at who
	// listens. Default: those of all interfaces but loopback.
	Addresses func() ([]netip.Addr, error)

	// ConnectTimeout of one attempt to reach an endpoint, unless mesh-wide
	// settings say otherwise. Default 10 s (Istio).
	ConnectTimeout time.Duration
	// HandshakeTimeout of TLS, either side. Default 10 s.
	HandshakeTimeout time.Duration
	// Hold is how long the greeting of a server that speaks first waits on a
	// PERMISSIVE port for a client that may be about to start TLS. Default 30 ms.
	Hold time.Duration
	// DrainTimeout is how long Run, once cancelled, lets connections end by
	// themselves, unless mesh-wide settings say otherwise. Default 5 s.
	DrainTimeout time.Duration
	// IdleTimeout is how long a connection may be silent before it is ended; less than
	// 0 is for ever, 0 what mesh-wide settings say, by default for ever.
	IdleTimeout time.Duration
	// CutGrace is how long a connection that a new configuration forbids only for
	// want of mutual TLS may take to finish the HTTP response it is in. Default
	// 250 ms.
	CutGrace time.Duration
	// MaxConnections at a time; more are reset. Default 65536.
	MaxConnections int
}

func (c *Config) setDefaults() {
	if c.Now == nil {
		c.Now = time.Now
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.ConnectTimeout, 10*time.Second)
	def(&c.HandshakeTimeout, 10*time.Second)
	def(&c.Hold, 30*time.Millisecond)
	def(&c.DrainTimeout, 5*time.Second)
	def(&c.CutGrace, 250*time.Millisecond)
	if c.ProbeDoor == 0 {
		c.ProbeDoor = mesh.ProbeDoor
	}
	if c.Addresses == nil {
		c.Addresses = ownAddresses
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 65536
	}
}

// trunks tells whether connections may share a handshake.
func (c *Config) trunks() bool {
	k, ok := c.Relay.(relay.Keeper)
	return ok && k.Keeps() && !c.NoTrunks
}

// Proxy is one sidecar or gateway.
type Proxy struct {
	cfg      Config
	log      *slog.Logger
	settings atomic.Pointer[settings] // nil until the first Apply
	applying sync.Mutex               // serializes Apply
	table    *table
	trunks   *trunks
	ledger   *ledger // nil only where its cost is measured
	facts    *Facts
	health   *endpointHealth
	files    *fileCache
	access   *accessLog
	metrics  *metrics
	server   *serverTLS
	certs    *certs
	gateways *gateways
	probes   *probes
	news     probeNews
	// lookAgain has keepKnown look at what is in use.
	lookAgain chan struct{}
	// idleChanged has keepIdle look whether the timeout is another.
	idleChanged chan struct{}
	asker       *http.Client // asks the workload for HTTP probes
	loops       *relay.Fast  // nil when the relay is the caller's
	shares      bool         // the relay takes connections over from crypto/tls

	sayNotTold sync.Once // that Listening fails

	// ctx ends what connections do besides moving bytes: dials, handshakes.
	ctx    context.Context
	cancel context.CancelFunc
	conns  sync.WaitGroup // one for each connection in flight

	draining atomic.Bool
}

// New makes a proxy without configuration: until Apply it resets everything.
func New(cfg Config) (*Proxy, error) {
	if cfg.Log == nil || cfg.OrigDst == nil || cfg.Identity == nil || cfg.Dialer == nil {
		return nil, errors.New("proxy: Config needs Log, OrigDst, Identity and Dialer")
	}
	cfg.setDefaults()
	cfg.Identity = &trust{Identity: cfg.Identity}
	var loops *relay.Fast
	if cfg.Relay == nil {
		loops = new(relay.Fast)
		cfg.Relay = loops
	}
	_, shares := cfg.Relay.(*relay.Fast)
	p := &Proxy{
		loops:   loops,
		shares:  shares,
		cfg:     cfg,
		log:     cfg.Log,
		table:   newTable(cfg.MaxConnections),
		trunks:  newTrunks(),
		health:  newEndpointHealth(cfg.Now),
		files:   newFileCache(),
		access:  newAccessLog(cfg.AccessLog),
		metrics: newMetrics(cfg.Identity, cfg.Now),
		server:  newServerTLS(cfg.Identity, cfg.Now, cfg.trunks()),
		certs:   new(certs),
	}
	p.facts = newFacts(p)
	p.ledger = newLedger(cfg.Now, p.facts.poke)
	p.gateways = newGateways(p)
	p.lookAgain = make(chan struct{}, 1)
	p.idleChanged = make(chan struct{}, 1)
	p.knownMetrics()
	p.asker = p.newAsker()
	var err error
	if p.probes, err = newProbes(cfg.Probes); err != nil {
		p.log.Warn("probes that no kubelet can ask", slog.Any("error", err))
	}
	p.cfg.OwnPorts = slices.Clone(cfg.OwnPorts)
	for i := range p.probes.doors {
		p.cfg.OwnPorts = append(p.cfg.OwnPorts, cfg.ProbeDoor+uint16(i))
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// Connections is the connection table: those that live, then the most recent of
// those that ended.
func (p *Proxy) Connections() []mesh.Connection { return p.table.snapshot() }

// Facts are what the proxy tells its control plane.
func (p *Proxy) Facts() *Facts { return p.facts }

// Generation of the configuration in force; 0 before the first.
func (p *Proxy) Generation() uint64 {
	if s := p.settings.Load(); s != nil {
		return s.config.Generation
	}
	return 0
}
