package proxy

import (
	"context"
	"errors"
	"time"

	"hasp/mesh"
	"hasp/proxy/relay"
)

var (
	errSaidMore = errors.New("the client said more than its question")
	errLeft     = errors.New("the client left before the answer")
)

// whileSilent runs ask, and ends it when the client says anything more, leaves
// or is cut off, or the proxy ends.
func (p *Proxy) whileSilent(r *row, ask func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(p.ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		_, err := relay.Peek(r.client)
		if err == nil {
			cancel(errSaidMore)
		} else {
			cancel(errLeft)
		}
	}()
	err := ask(ctx)
	cause := context.Cause(ctx)
	_ = r.client.SetReadDeadline(time.Unix(1, 0)) // wakes the watch; fails only on a closed socket
	<-watched
	if cause != nil {
		return cause
	}
	return err
}

// refuseProbe refuses what began as a probe and is none, as if it had never
// looked like one.
func (p *Proxy) refuseProbe(r *row) {
	if r.snapshot().TLS != "" {
		r.set(func(f *mesh.Connection) { f.Security = mesh.SimpleTLS })
	} else {
		p.strangerSpoke(r)
	}
	p.settle(r)
}

// strangerSpoke notes that a client of a port that requires mutual TLS spoke
// plaintext, for settle to refuse.
func (p *Proxy) strangerSpoke(r *row) {
	p.metrics.handshakeFailed("server", errPlaintext)
	p.plaintext(r, p.settings.Load().whyPlaintext(r.snapshot().Source.Addr()))
}
