package proxy

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// gateways are the ports that Gateway objects open. The set follows the
// configuration; what a port does is looked up at each request.
type gateways struct {
	p *Proxy
	// changed wakes the loop that opens and closes ports.
	changed chan struct{}
	// errorLog takes what net/http has to say: strangers' failed handshakes,
	// responses that nobody waited for.
	errorLog *log.Logger

	outside atomic.Int64 // connections from outside

	mu    sync.Mutex
	pools map[string]*upstreamPool // by poolKey
}

func newGateways(p *Proxy) *gateways {
	return &gateways{p: p, changed: make(chan struct{}, 1), errorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug), pools: make(map[string]*upstreamPool)}
}

// serveGateway opens and closes ports as the configuration says, until ctx
// ends. It returns when no request is being served any more, or the drain time
// is over.
func (p *Proxy) serveGateway(ctx context.Context) error {
	// The end of the proxy cuts the longer drain of closed ports short.
	draining, cut := context.WithCancel(context.Background())
	defer cut()
	var wg sync.WaitGroup // one for each port that drains
	open := make(map[uint16]*gatewayPort)
	for {
		for _, g := range p.openPorts(open) {
			g.shutdown(draining, p.drainTime(), &wg)
		}
		select {
		case <-p.gateways.changed:
		case <-ctx.Done():
			last := p.terminationDrain()
			t := time.AfterFunc(last, cut)
			defer t.Stop()
			for _, g := range open {
				g.shutdown(draining, last, &wg)
			}
			wg.Wait()
			for _, ln := range p.cfg.Inherited {
				ln.Close() // closed already if it was served
			}
			p.gateways.keepPools(nil)
			return nil
		}
	}
}

// openPorts makes the open ports those of the settings. It returns those that
// are to be shut down.
func (p *Proxy) openPorts(open map[uint16]*gatewayPort) (closed []*gatewayPort) {
	s := p.settings.Load()
	if s == nil {
		return nil
	}
	for _, port := range slices.Sorted(maps.Keys(s.gateway)) {
		if open[port] != nil {
			continue
		}
		g, err := p.openPort(port)
		if err != nil {
			p.log.Error("gateway port not opened", slog.Int("port", int(port)), slog.Any("error", err))
			continue
		}
		open[port] = g
	}
	for port, g := range open {
		// An inherited socket could not be opened again: it stays, and what
		// connects to it is reset while nothing serves it.
		if s.gateway[port] == nil && p.cfg.Inherited[port] == nil {
			closed = append(closed, g)
			delete(open, port)
		}
	}
	return closed
}

// gatewayPort is one port being served.
type gatewayPort struct {
	server *http.Server
	done   chan struct{} // closed when nothing is accepted any more
}

func (p *Proxy) openPort(port uint16) (*gatewayPort, error) {
	ln := p.cfg.Inherited[port]
	if ln == nil {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		var err error
		if ln, err = lc.Listen(p.ctx, "tcp", fmt.Sprintf(":%d", port)); err != nil {
			return nil, err
		}
	}
	g := &gatewayPort{done: make(chan struct{})}
	g.server = &http.Server{
		Handler:           p.gatewayHandler(port),
		ReadHeaderTimeout: 15 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          p.gateways.errorLog,
		ConnState:         p.gateways.connState,
	}
	go func() {
		defer close(g.done)
		if err := g.server.Serve(&gatewayListener{Listener: ln, p: p, port: port}); !errors.Is(err, http.ErrServerClosed) {
			p.log.Error("gateway port failed", slog.Int("port", int(port)), slog.Any("error", err))
		}
	}()
	p.log.Info("gateway port open", slog.Int("port", int(port)))
	return g, nil
}

// shutdown stops accepting; the port can be opened again when it returns.
// Requests may go on for the drain time, which wg waits for.
func (g *gatewayPort) shutdown(ctx context.Context, drain time.Duration, wg *sync.WaitGroup) {
	wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, drain)
		defer cancel()
		if g.server.Shutdown(ctx) != nil {
			_ = g.server.Close()
		}
	})
	<-g.done
}

// enter counts a connection from outside, unless there are too many.
func (g *gateways) enter() bool {
	if g.outside.Add(1) <= int64(g.p.cfg.MaxConnections) {
		return true
	}
	g.outside.Add(-1)
	g.p.metrics.overload.Inc()
	return false
}

// connState counts the connections from outside that ended. One that was
// upgraded goes on, and is counted by its upstream connection in the table.
func (g *gateways) connState(_ net.Conn, s http.ConnState) {
	if s == http.StateClosed || s == http.StateHijacked {
		g.outside.Add(-1)
	}
}

// gatewayListener wraps each connection in TLS or not, as the configuration of
// the moment says.
type gatewayListener struct {
	net.Listener
	p    *Proxy
	port uint16
}

// Accept implements net.Listener.
func (l *gatewayListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		s := l.p.settings.Load()
		if g := s.gateway[l.port]; g != nil && l.p.gateways.enter() {
			return g.wrap(c), nil
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			relay.Reset(tcp)
		} else {
			c.Close()
		}
	}
}

// gatewaySettings is one port made ready for use: the Gateway servers on it.
type gatewaySettings struct {
	protocol mesh.Protocol
	servers  []*gatewayServer
}

// newGateway groups the servers of a configuration by port.
func newGateway(id Identity, now func() time.Time, c *mesh.ProxyConfig, clusters map[string]*cluster) (map[uint16]*gatewaySettings, error) {
	out := make(map[uint16]*gatewaySettings)
	for i := range c.Gateway {
		srv := &c.Gateway[i]
		where := fmt.Sprintf("gateway %s, port %d", srv.Origin.Ref(), srv.Port)
		g, err := newGatewayServer(id, now, srv, c.Secrets, clusters)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		at := out[srv.Port]
		if at == nil {
			at = &gatewaySettings{protocol: srv.Protocol}
			out[srv.Port] = at
		}
		if at.protocol != srv.Protocol {
			return nil, fmt.Errorf("%s: protocol %s on a port that serves %s", where, srv.Protocol, at.protocol)
		}
		at.servers = append(at.servers, g)
	}
	return out, nil
}
