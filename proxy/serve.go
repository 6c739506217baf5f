package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// ServeOutbound takes the connections the workload makes until ctx ends, then
// returns nil. It closes ln.
func (p *Proxy) ServeOutbound(ctx context.Context, ln net.Listener) error {
	return p.serve(ctx, ln, mesh.OutboundDir, p.outbound)
}

// ServeInbound takes the connections made to the workload until ctx ends, then
// returns nil. It closes ln.
func (p *Proxy) ServeInbound(ctx context.Context, ln net.Listener) error {
	return p.serve(ctx, ln, mesh.InboundDir, p.inbound)
}

// serve accepts, and runs handle in a goroutine of its own for each connection.
// It does not wait for them; Close does.
func (p *Proxy) serve(ctx context.Context, ln net.Listener, dir mesh.Direction, handle func(*row)) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	defer ln.Close()
	for {
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if !temporary(err) {
				return fmt.Errorf("proxy: accept %s connections: %w", dir, err)
			}
			p.log.Warn("accepting failed, trying again", slog.String("direction", string(dir)), slog.Any("error", err))
			if !wait(ctx, 50*time.Millisecond) {
				return nil
			}
			continue
		}
		tcp, ok := c.(*net.TCPConn)
		if !ok {
			c.Close()
			return fmt.Errorf("proxy: the %s listener is not a TCP listener but gave a %T", dir, c)
		}
		p.conns.Add(1)
		go p.handle(tcp, dir, handle)
	}
}

// handle enters a connection, whose row is made first and ended last, whatever
// happens in between.
func (p *Proxy) handle(c *net.TCPConn, dir mesh.Direction, do func(*row)) {
	r := p.table.open(dir, c, p.cfg.Now())
	if r == nil {
		p.metrics.overload.Inc()
		relay.Reset(c)
		p.conns.Done()
		return
	}
	p.facts.poke()
	r.frames.Add(1)
	p.frame(r, func() { do(r) })
}

// frame is around whatever a goroutine does for a connection. There is one until
// the relay has it, and another when the relay is done; the last ends it.
func (p *Proxy) frame(r *row, do func()) {
	defer func() {
		v := recover()
		if v != nil {
			p.log.Error("a connection's goroutine panicked", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			p.refuse(r, mesh.StagePolicy, errBug)
		}
		if r.frames.Add(-1) == 0 {
			p.end(r)
			p.conns.Done()
		}
	}()
	do()
}

var errBug = errors.New("the proxy failed: a bug")

// end is the one place where a connection ends: counters, sockets, ledger,
// slot, log.
func (p *Proxy) end(r *row) {
	p.failPolicy(r)
	p.metrics.connectionEnded(r) // first: a request that got no answer is one more of its facts
	facts := r.end(p.cfg.Now())
	p.closeAccount(r, &facts)
	told := p.news.fresh(&facts)
	p.table.close(r, &facts, told)
	p.facts.ended(r, &facts, told)
	if told {
		p.access.connection(p.logForm(), &facts)
	}
}

// temporary tells whether accepting may work again: the process is out of
// descriptors, or the peer went away while it waited.
func temporary(err error) bool {
	var ne net.Error
	//lint:ignore SA1019 Temporary is the only word accept errors have for it
	return errors.As(err, &ne) && ne.Temporary()
}

// wait returns false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
