package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

var (
	errNoConfiguration = errors.New("the proxy has no configuration yet")
	errDraining        = errors.New("the proxy is draining")
)

// Listeners are what a proxy serves on; nil ones are not served. Run owns them.
type Listeners struct {
	Outbound net.Listener // 15001, connections the workload makes
	Inbound  net.Listener // 15006, connections made to the workload
	Admin    net.Listener // 15000, on loopback only
	Health   net.Listener // 15021
	Metrics  net.Listener // 15090
}

// Run serves until ctx ends or a listener fails, lets connections end by
// themselves for the drain time, ends the rest and returns when nothing of the
// proxy runs any more.
func (p *Proxy) Run(ctx context.Context, l Listeners) error {
	// The pages stay up while connections drain.
	pages, stopPages := context.WithCancel(context.WithoutCancel(ctx))
	defer stopPages()
	var pageGroup errgroup.Group
	work, serving := errgroup.WithContext(ctx)
	// At once: a gateway's requests may take all of the drain time.
	stop := context.AfterFunc(serving, func() { p.draining.Store(true) })
	defer stop()
	for _, s := range []struct {
		ln net.Listener
		h  http.Handler
	}{{l.Admin, p.AdminHandler()}, {l.Health, p.HealthHandler()}, {l.Metrics, p.MetricsHandler()}} {
		if s.ln != nil {
			pageGroup.Go(func() error { return servePages(pages, s.ln, s.h) })
		}
	}
	if l.Outbound != nil {
		work.Go(func() error { return p.ServeOutbound(serving, l.Outbound) })
	}
	if l.Inbound != nil {
		work.Go(func() error { return p.ServeInbound(serving, l.Inbound) })
		work.Go(func() error { return p.serveDoors(serving) })
	}
	work.Go(func() error { return p.serveGateway(serving) })
	work.Go(func() error { p.keepKnown(serving); return nil })
	work.Go(func() error { p.keepIdle(serving); return nil })
	err := work.Wait()
	p.draining.Store(true)
	p.drain()
	stopPages()
	return errors.Join(err, pageGroup.Wait())
}

// servePages serves small pages until ctx ends.
func servePages(ctx context.Context, ln net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("proxy: serve %s: %w", ln.Addr(), err)
	}
	return nil
}

// drain waits until no connection lives, at most the drain time, and ends the
// rest.
func (p *Proxy) drain() {
	p.trunks.close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.conns.Wait()
	}()
	t := time.NewTimer(p.terminationDrain())
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		p.log.Info("drain time is over", slog.Int("connections", p.table.size()))
	}
	p.Close()
	<-done
}

// Close ends every connection that still lives and waits for all goroutines of
// the proxy. What serves must have been stopped by its context first. It may be
// called more than once.
func (p *Proxy) Close() {
	p.cancel()
	p.facts.stop()
	p.trunks.close()
	for _, r := range p.table.rows() {
		r.reset("the proxy ended")
	}
	p.conns.Wait()
	if p.loops != nil {
		p.loops.Close()
	}
}

// reset ends a live connection for a reason that is no policy's.
func (r *row) reset(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || r.cut {
		return
	}
	r.cut = true
	r.facts.write(r.id).Why = why
	r.letGo()
	r.closeSockets(true)
}
