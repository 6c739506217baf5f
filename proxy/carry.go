package proxy

import (
	"errors"
	"fmt"
	"sync/atomic"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// carry moves the bytes of a connection that was let in, until it ends.
func (p *Proxy) carry(r *row, client, up *relay.Side) {
	o := p.observe(r, p.metrics.identify(r, p.settings.Load()))
	err := p.cfg.Relay.Relay(client, up, &r.meter, o)
	if err == nil {
		up.Close()
		client.Close()
		r.finishInOrder()
		return
	}
	r.broke(err)
	p.sayBroken(r, client)
}

// broke notes why a connection ended early.
func (r *row) broke(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var e *relay.Error
	r.upstreamBroke = errors.As(err, &e) && e.Upstream
	switch {
	case r.cut: // the reason is noted, and the error is only its consequence
	case r.facts.Why == "":
		r.facts.Why = err.Error()
	default:
		r.facts.Why = fmt.Sprintf("%s; %s", r.facts.Why, err)
	}
}

// observe is what watches a connection's bytes: the HTTP observer where the
// port speaks HTTP, and a look at the first byte of what is not encrypted by
// us, since it may be the application's own TLS.
func (p *Proxy) observe(r *row, se *series) relay.Observer {
	f := r.snapshot()
	o := &observer{row: r}
	o.fresh.Store(f.Security == mesh.Plaintext)
	if f.Protocol == mesh.HTTP && f.Security != mesh.PassedTLS {
		o.http = newHTTPWatch(p.cfg.Now, func(x exchange) { p.metrics.exchange(se, x) })
		r.watchHTTP(o.http)
	}
	return o
}

type observer struct {
	row   *row
	http  *httpWatch
	fresh atomic.Bool // the client has sent nothing yet, and not under our TLS
}

// FromClient implements relay.Observer.
func (o *observer) FromClient(p []byte) {
	if o.fresh.Load() {
		o.fresh.Store(false)
		if p[0] == recordHandshake {
			o.row.set(func(f *mesh.Connection) { f.Security = mesh.PassedTLS })
		}
	}
	if o.http != nil {
		o.http.fromClient(p)
	}
}

// Finished implements relay.Observer.
func (o *observer) Finished() bool {
	return !o.fresh.Load() && (o.http == nil || o.http.stopped())
}

// FromUpstream implements relay.Observer.
func (o *observer) FromUpstream(p []byte) {
	if o.http != nil {
		o.http.fromUpstream(p)
	}
}
