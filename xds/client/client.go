// Package client is the proxy's end of xDS: it keeps a delta ADS stream to the
// control plane, puts the resources of one configuration together, and hands
// over the whole of it.
//
// A [Client] never hands over a mixture: updates arrive a type at a time, and
// only when all belong to one configuration (xds.Complete) are they decoded and
// given to OnConfig. If that fails the control plane is told why (NACK) and
// whoever took the last configuration goes on with it, as it does when the
// control plane is away.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"hasp/mesh"
	"hasp/xds"
)

// Config is what a Client needs.
type Config struct {
	Target string // HOST:PORT of the control plane
	Node   string // NAMESPACE/NAME of the workload
	// TLS is asked for each connection; it verifies the control plane and shows
	// the proxy's certificate.
	TLS func() *tls.Config
	// Changed gives a channel that is closed when TLS would say something else
	// than now: a client that waits to try again tries at once then, since the
	// control plane may have refused a certificate that was replaced. Nil never
	// says so.
	Changed func() <-chan struct{}
	// Dial opens the TCP connection; nil is a plain dialer.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	Log  *slog.Logger
	// Demand, if not nil, is what the proxy asks for where the mesh is too large to be
	// told whole; ProxyConfig.OnDemand says whether it is.
	Demand *Demand
	// OnConfig takes a new configuration in use. Its error is a NACK, and it
	// must then go on with the one before. It is called from one goroutine.
	OnConfig func(*mesh.ProxyConfig) error
}

// Client follows the configuration of one proxy.
type Client struct {
	cfg  Config
	wait time.Duration // maximal; tests shorten it

	staged  xds.Resources // as the control plane believes we have them
	applied string        // version of hasp.proxy that OnConfig took
	// onDemand: the configuration that OnConfig took is. Absent is what was asked for
	// and is not there, by type and name.
	onDemand bool
	absent   map[string]map[string]bool

	mu     sync.Mutex
	status Status
}

// Status is what there is to tell about a Client.
type Status struct {
	Connected  bool
	Generation uint64 // of the configuration in use; 0 before the first
	AppliedAt  time.Time
	// Err is why the last connection ended or the last configuration was
	// refused, nil when neither is so.
	Err error
}

// New checks the configuration. Nothing is dialled before Run.
func New(cfg Config) (*Client, error) {
	if cfg.Target == "" || cfg.Node == "" || cfg.TLS == nil || cfg.Log == nil || cfg.OnConfig == nil {
		return nil, errors.New("xds/client: a client needs a target, a node, TLS, a log and OnConfig")
	}
	if cfg.Dial == nil {
		cfg.Dial = plainDial
	}
	return &Client{cfg: cfg, wait: maxWait, staged: xds.Resources{}, absent: map[string]map[string]bool{}}, nil
}

// Run connects, and again whenever the stream ends, until ctx ends, which is
// the only way it returns (with nil).
func (c *Client) Run(ctx context.Context) error {
	again(ctx, c.wait, c.cfg.Changed, c.stream, func(err error, wait time.Duration) time.Duration {
		if errors.Is(err, errAnew) {
			c.set(func(s *Status) { s.Connected, s.Err = false, nil })
			c.cfg.Log.Info(err.Error(), slog.String("target", c.cfg.Target))
		} else {
			c.set(func(s *Status) { s.Connected, s.Err = false, err })
			c.cfg.Log.Warn("control plane away", slog.String("target", c.cfg.Target), slog.Any("err", err), slog.Duration("retry", wait))
		}
		return wait
	})
	c.set(func(s *Status) { s.Connected = false })
	return nil
}

// Status of the client now.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

func (c *Client) set(f func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.status)
	if c.cfg.Demand != nil {
		c.cfg.Demand.setConnected(c.status.Connected)
	}
}
