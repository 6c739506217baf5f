package proxy

import (
	"errors"
	"fmt"
	"sync/atomic"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// carry has the bytes of a connection moved that was let in, until it ends. It
// does not wait for that.
func (p *Proxy) carry(r *row, client, up *relay.Side) {
	p.start(r, client, up, p.observe(r, p.metrics.identify(r, p.settings.Load())))
}

// carryTo is carry for a connection that may be made to another endpoint while
// nothing came of the first, some times at most.
func (p *Proxy) carryTo(r *row, client, up *relay.Side, times int) {
	o := p.observe(r, p.metrics.identify(r, p.settings.Load()))
	o.kept.Store(new(kept))
	o.times = int8(times)
	p.start(r, client, up, o)
}

// start hands a connection to the relay.
func (p *Proxy) start(r *row, client, up *relay.Side, o *observer) {
	if !r.carriedBy(client, up) { // cut meanwhile: both are reset
		return
	}
	r.frames.Add(1)
	p.cfg.Relay.Start(client, up, &r.meter, o, o.over)
}

// over is called when the relay is done.
func (o *observer) over(err error) {
	p, r := o.p, o.row
	p.frame(r, func() {
		r.mu.Lock()
		client, up := r.sides[0], r.sides[1]
		r.mu.Unlock()
		if err != nil && o.times > 0 {
			if next := p.again(r, o, client, up, err); next != nil {
				p.carryTo(r, client, next, int(o.times)-1)
				return
			}
		}
		if o.bare {
			p.passedProbe(r, o)
		}
		p.finish(r, client, up, err)
	})
}

// finish ends a connection that was carried; err is what broke it.
func (p *Proxy) finish(r *row, client, up *relay.Side, err error) {
	if err == nil {
		kept := p.rest(r)
		for _, s := range []*relay.Side{up, client} {
			if s != kept {
				s.Close()
			}
		}
		r.finishInOrder()
		return
	}
	r.broke(err)
	if e := new(relay.Error); errors.As(err, &e) && e.Upstream {
		p.failAnswer(r, err)
	}
	p.sayBroken(r, client)
}

// broke notes why a connection ended early.
func (r *row) broke(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var e *relay.Error
	r.upstreamBroke = errors.As(err, &e) && e.Upstream
	if r.cut { // the reason is noted, and the error is only its consequence
		return
	}
	if f := r.facts.write(r.id); f.Why == "" {
		f.Why = err.Error()
	} else {
		f.Why = fmt.Sprintf("%s; %s", f.Why, err)
	}
}

// observe is what watches a connection's bytes: the HTTP observer where the
// port speaks HTTP, and a look at the first byte of what is not encrypted by
// us, since it may be the application's own TLS.
func (p *Proxy) observe(r *row, se *series) *observer {
	f := r.snapshot()
	o := &observer{p: p, row: r}
	o.bare = f.Security == mesh.Plaintext
	o.uncounted = o.bare
	o.fresh.Store(o.bare)
	if speaksHTTP(f.Protocol) && f.Security != mesh.PassedTLS {
		o.http = newHTTPWatch(p.cfg.Now, func(x exchange) { p.exchanged(r, se, x) })
		r.watchHTTP(o.http)
	}
	return o
}

// observer is what a connection has while its bytes are moved, silent or not, so
// it is small.
type observer struct {
	p     *Proxy
	row   *row
	http  *httpWatch
	kept  atomic.Pointer[kept] // nil when nothing can be sent again
	probe atomic.Pointer[httpQuestion]
	hello *relay.Hello // of the application's own TLS, until it is read
	fresh atomic.Bool  // the client has sent nothing yet, and not under our TLS
	// uncounted connections are not in the ledger yet: what they are is seen by
	// what the client says. Only FromClient has to do with it.
	uncounted bool
	bare      bool // in plaintext, as far as we are concerned
	times     int8 // that it may be made to another endpoint
}

// FromClient implements relay.Observer.
func (o *observer) FromClient(p []byte) <-chan struct{} {
	if o.probe.Load() != nil { // a store would cost each time
		o.probe.Store(nil)
	}
	if o.fresh.Load() {
		o.fresh.Store(false)
		o.probe.Store(o.question(p))
		if p[0] == recordHandshake {
			o.row.set(func(f *mesh.Connection) { f.Security = mesh.PassedTLS })
			o.hello = new(relay.Hello)
		}
	}
	if o.hello != nil {
		if o.hello.Add(p); o.hello.Done() {
			o.row.traceHello(o.hello.Random())
			o.hello = nil
		}
	}
	if o.uncounted && o.probe.Load() == nil && o.hello == nil {
		o.uncounted = false
		o.p.count(o.row)
	}
	if o.http == nil {
		return nil
	}
	hold := o.http.fromClient(p)
	if k := o.kept.Load(); k != nil && hold == nil {
		k.add(p)
	}
	return hold
}

// question is what a kubelet may ask here in plaintext, if that is how a client
// begins.
func (o *observer) question(p []byte) *httpQuestion {
	f := o.row.snapshot()
	if f.Direction != mesh.InboundDir {
		return nil
	}
	q, _ := matchHTTP(o.p.probes.at(f.Destination.Port()).http, p, f.Destination)
	return q
}

// Finished implements relay.Observer.
func (o *observer) Finished() bool {
	return !o.fresh.Load() && (o.http == nil || o.http.stopped())
}

// FromUpstream implements relay.Observer.
func (o *observer) FromUpstream(p []byte) {
	if o.http != nil {
		if k := o.kept.Load(); k != nil {
			k.answered()
			o.kept.Store(nil)
		}
		o.http.fromUpstream(p)
	}
}

// UpstreamEnded implements relay.Ender: a server that ends in order and has not
// answered a request has not taken it.
func (o *observer) UpstreamEnded() error {
	if k := o.kept.Load(); k != nil && k.request() != nil {
		return errNoAnswer
	}
	return nil
}
