package proxy

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
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

	portsMu sync.Mutex
	ports   map[uint16]error // those tried: nil is open, else why it is not
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
	pause := firstPortPause
	again := time.NewTimer(pause)
	defer again.Stop()
	for {
		closed, complete := p.openPorts(open)
		for _, g := range closed {
			g.shutdown(draining, p.drainTime(), &wg)
		}
		again.Stop()
		if !complete {
			again.Reset(pause)
		}
		select {
		case <-p.gateways.changed:
			pause = firstPortPause
		case <-again.C:
			pause = min(2*pause, lastPortPause)
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
