package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A port that cannot be opened is tried again after firstPortPause, then after
// twice as long each time, at most lastPortPause.
const (
	firstPortPause = 250 * time.Millisecond
	lastPortPause  = 15 * time.Second
)

// openPorts makes the open ports those of the settings. It returns those that
// are to be shut down, and whether all that are to be open are.
func (p *Proxy) openPorts(open map[uint16]*gatewayPort) (closed []*gatewayPort, complete bool) {
	s := p.settings.Load()
	if s == nil {
		return nil, true
	}
	complete = true
	tried := make(map[uint16]error)
	for _, port := range slices.Sorted(maps.Keys(s.gateway)) {
		if open[port] == nil {
			g, err := p.openPort(port)
			if err != nil {
				complete, tried[port] = false, notOpen(port, err)
				continue
			}
			open[port] = g
		}
		tried[port] = nil
	}
	for _, port := range p.gateways.tried(tried) {
		p.log.Error("gateway port not opened, tried again until it is", slog.Int("port", int(port)), slog.Any("error", tried[port]))
	}
	for port, g := range open {
		// An inherited socket could not be opened again: it stays, and what
		// connects to it is reset while nothing serves it.
		if s.gateway[port] == nil && p.cfg.Inherited[port] == nil {
			closed = append(closed, g)
			delete(open, port)
		}
	}
	return closed, complete
}

// tried notes what became of the ports, and returns those of which there is
// something new to say.
func (g *gateways) tried(now map[uint16]error) (news []uint16) {
	g.portsMu.Lock()
	defer g.portsMu.Unlock()
	for _, port := range slices.Sorted(maps.Keys(now)) {
		if err, before := now[port], g.ports[port]; err != nil && (before == nil || before.Error() != err.Error()) {
			news = append(news, port)
		}
	}
	g.ports = now
	return news
}

// ready is nil when every port of the settings is open, else says of the first
// why it is not.
func (g *gateways) ready(s *settings) error {
	g.portsMu.Lock()
	defer g.portsMu.Unlock()
	for _, port := range slices.Sorted(maps.Keys(s.gateway)) {
		if err, tried := g.ports[port]; err != nil {
			return err
		} else if !tried {
			return fmt.Errorf("gateway port %d is not open yet", port)
		}
	}
	return nil
}

// notOpen adds the way out to an error of the kernel.
func notOpen(port uint16, err error) error {
	switch {
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("gateway port %d: %w; give the pod the sysctl net.ipv4.ip_unprivileged_port_start=0, or name a port of 1024 and more in the Gateway", port, err)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("gateway port %d: %w; something else in the pod listens there: name another port in the Gateway", port, err)
	}
	return fmt.Errorf("gateway port %d: %w", port, err)
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
