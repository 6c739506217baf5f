package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"

	"hasp/ca/csr"
	"hasp/capture"
	"hasp/mesh"
	"hasp/proxy"
	"hasp/proxy/relay"
	"hasp/xds/client"
)

// controlPlaneTimeout bounds one attempt to connect to the control plane.
const controlPlaneTimeout = 5 * time.Second

// run is the whole process: certificate, configuration, proxy. It returns when
// ctx ended and the proxy has drained.
func run(ctx context.Context, boot *mesh.Bootstrap, opts options, stdout, stderr io.Writer) error {
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: opts.level}))
	dialer := &net.Dialer{Control: capture.MarkControl(boot.Mark)}
	dialer.SetMultipathTCP(false) // capture sees TCP; a subflow could go past it
	// The name is resolved for each connection, and a replica of the control
	// plane that does not answer is given up soon: the next try may reach another.
	dialTCP := func(ctx context.Context, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, controlPlaneTimeout)
		defer cancel()
		return dialer.DialContext(ctx, "tcp", address)
	}
	source, err := newSource(boot, dialTCP, log)
	if err != nil {
		return err
	}
	listening, done := whoListens(log)
	defer done()
	demand := client.NewDemand()
	p, err := newProxy(boot, opts, source, demand, dialer, listening, log, stdout)
	if err != nil {
		return err
	}
	follower, err := client.New(client.Config{
		Target: boot.ControlPlane, Node: boot.Node, TLS: source.ControlPlaneTLS, Changed: source.Changed,
		Dial: dialTCP, Log: log, Demand: demand, OnConfig: p.Apply,
	})
	if err != nil {
		return err
	}
	reporter, err := client.NewReporter(client.ReporterConfig{
		Target: boot.ControlPlane, Node: boot.Node, TLS: source.ControlPlaneTLS, Changed: source.Changed,
		Dial: dialTCP, Log: log, Source: p.Facts(),
	})
	if err != nil {
		return err
	}
	if err := p.Registerer().Register(connected(follower)); err != nil {
		return err
	}
	listeners, err := listen(ctx, boot)
	if err != nil {
		return err
	}
	// Certificate and configuration are kept up while connections drain, and what
	// became of them is the last report.
	lasting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return source.Run(lasting) })
	for _, run := range []func(context.Context) error{follower.Run, reporter.Run} {
		g.Go(func() error {
			select {
			case <-source.Ready(): // the control plane talks to certificates only
				return run(lasting)
			case <-lasting.Done():
				return nil
			}
		})
	}
	g.Go(func() error {
		defer stop()
		return p.Run(ctx, listeners)
	})
	return g.Wait()
}

// connected is 1 while the control plane is there. The proxy works without it.
func connected(c *client.Client) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hasp_control_plane_connected", Help: "Whether the stream to the control plane is up.",
	}, func() float64 {
		if c.Status().Connected {
			return 1
		}
		return 0
	})
}

func newSource(boot *mesh.Bootstrap, dial func(context.Context, string) (net.Conn, error), log *slog.Logger) (*csr.Source, error) {
	id, err := spiffeid.FromString(boot.Identity)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: identity %q: %w", boot.Identity, err)
	}
	server, err := spiffeid.FromString(boot.ControlPlaneID)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: controlPlaneID %q: %w", boot.ControlPlaneID, err)
	}
	return csr.NewSource(csr.SourceConfig{
		Target: boot.ControlPlane, ServerID: server, ID: id, Workload: boot.Node,
		Roots: []byte(boot.Roots), Token: boot.Token,
		RootsFile: boot.RootsFile, TokenFile: boot.TokenFile,
		CA: boot.CA, CAName: boot.CAName,
		Lifetime: time.Duration(boot.CertLifetime) * time.Second,
		Dial:     dial, Log: log,
	})
}

// whoListens is the kernel's word, or nil where it does not give it.
func whoListens(log *slog.Logger) (at func(netip.AddrPort) (bool, error), done func()) {
	l, err := capture.OpenListening()
	if err != nil {
		log.Warn("the kernel does not say who listens: TCP probes succeed while the proxy is up", slog.Any("error", err))
		return nil, func() {}
	}
	return l.At, func() { l.Close() }
}

func newProxy(boot *mesh.Bootstrap, opts options, id proxy.Identity, demand proxy.Directory, dialer proxy.Dialer, listening func(netip.AddrPort) (bool, error), log *slog.Logger, stdout io.Writer) (*proxy.Proxy, error) {
	sockets, err := inherited(boot.Inherited)
	if err != nil {
		return nil, err
	}
	cfg := proxy.Config{
		Log: log, OrigDst: capture.OriginalDst, Identity: id, Directory: demand, Dialer: dialer,
		Inherited: sockets, DrainTimeout: opts.drain, NoTrunks: opts.trunks == "off", IdleTimeout: opts.idle,
		OwnPorts: []uint16{boot.OutboundPort, boot.InboundPort},
		Probes:   boot.Probes, Listening: listening,
	}
	if opts.relay == "portable" {
		cfg.Relay = relay.Portable{}
	}
	if opts.accessLog != "off" {
		cfg.AccessLog, cfg.AccessLogJSON = stdout, opts.accessLog == "json"
	}
	return proxy.New(cfg)
}

// listen opens the proxy's ports: traffic and health on all addresses, since
// the kernel redirects to the address a packet came for, admin on loopback. A
// gateway has no traffic ports of its own; its configuration names them.
func listen(ctx context.Context, boot *mesh.Bootstrap) (proxy.Listeners, error) {
	var out proxy.Listeners
	ports := []struct {
		ln   *net.Listener
		host string
		port uint16
	}{
		{&out.Admin, "127.0.0.1", boot.AdminPort},
		{&out.Health, "", boot.HealthPort},
		{&out.Metrics, "", boot.MetricsPort},
		{&out.Outbound, "", boot.OutboundPort},
		{&out.Inbound, "", boot.InboundPort},
	}
	if boot.Role == mesh.RoleGateway {
		ports = ports[:3]
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	for i, p := range ports {
		ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(p.host, fmt.Sprint(p.port)))
		if err != nil {
			for _, open := range ports[:i] {
				(*open.ln).Close()
			}
			return proxy.Listeners{}, err
		}
		*p.ln = ln
	}
	return out, nil
}
