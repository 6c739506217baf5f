package proxy

import (
	"context"
	"log/slog"
	"time"

	"hasp/proxy/relay"
)

// Close ends every connection that still lives and waits for all goroutines of
// the proxy. Listeners that serve must have been stopped by their context
// first. It may be called more than once.
func (p *Proxy) Close() {
	p.cancel()
	for _, r := range p.table.rows() {
		r.reset("the proxy ended")
	}
	p.conns.Wait()
}

// drain waits until no connection lives, at most the drain time.
func (p *Proxy) drain(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.conns.Wait()
	}()
	t := time.NewTimer(p.cfg.DrainTimeout)
	defer t.Stop()
	select {
	case <-done:
	case <-ctx.Done():
	case <-t.C:
		p.log.Info("drain time is over", slog.Int("connections", p.table.size()))
	}
	p.Close()
	<-done
}

// reset ends a live connection for a reason that is no policy's.
func (r *row) reset(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || r.cut {
		return
	}
	r.cut = true
	r.facts.Why = why
	relay.Reset(r.client)
	if r.upstream != nil {
		relay.Reset(r.upstream)
	}
}
