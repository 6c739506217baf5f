package proxy

import (
	"bytes"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"hasp/mesh"
	"hasp/proxy/relay"
)

const (
	// maxAgain bounds how often one request is sent to another endpoint, as in
	// Istio's default of two retries.
	maxAgain = 2
	// maxKept bounds a request that can be sent again.
	maxKept = 16 << 10
)

var errNoAnswer = errors.New("ended without an answer")

// kept is what a client has said while not a byte of an answer came, so that it
// can be said again to another endpoint.
type kept struct {
	over atomic.Bool // answered, or too long: for good
	mu   sync.Mutex
	b    []byte
}

func (k *kept) add(p []byte) {
	if k.over.Load() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.over.Load():
	case len(k.b)+len(p) > maxKept:
		k.forget()
	default:
		k.b = append(k.b, p...)
	}
}

func (k *kept) answered() {
	if k.over.Load() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forget()
}

// forget is for callers that hold mu.
func (k *kept) forget() {
	k.b = nil
	k.over.Store(true)
}

// request is what was kept, if it is the beginning or the whole of an HTTP
// request that is safe to repeat.
func (k *kept) request() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	method, _, ok := bytes.Cut(k.b, []byte{' '})
	if !ok || !safe(string(method)) {
		return nil
	}
	return k.b
}

// said tells whether the client has said anything that a server may have got.
func (k *kept) said() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.b) > 0 || k.over.Load()
}

// safe tells whether a request may be repeated though a server may have begun on
// it (RFC 9110, section 9.2.1).
func safe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	return false
}

// again sends the first request of an HTTP connection to another endpoint, when
// the one it was sent to went away without a byte of an answer: a workload that
// ends resets what its kernel took for it and it never accepted, which the client's
// proxy may hear of before it has read the request. It returns the upstream to go on
// with, or nil when there is nothing to be done.
func (p *Proxy) again(r *row, o *observer, client, up *relay.Side, broke error) (next *relay.Side) {
	var e *relay.Error
	if o.http == nil || o.http.requests() > 1 || r.meter.Sent.Load() > 0 || !errors.As(broke, &e) || !e.Upstream {
		return nil
	}
	k := o.kept.Load()
	if k == nil {
		return nil
	}
	request := k.request()
	f := r.snapshot()
	dst, failed := f.Destination, f.Upstream
	s := p.settings.Load()
	c := s.route(dst)
	if request == nil && k.said() || c == nil || !p.hasAnother(c, dst, failed) {
		return nil
	}
	up.Reset()
	p.health.failed(failed.String())
	first := r.attempt()
	r.set(func(f *mesh.Connection) { f.Security, f.Why = mesh.Unknown, "" })
	next, err := p.connect(p.ctx, r, s, c, dst)
	if err != nil {
		p.leave(r.attempt(), mesh.StageHandshake, err)
		first.facts.Why = "tried another: " + err.Error()
		r.goBack(first)
		return nil
	}
	p.leave(first, mesh.StageAnswer, broke)
	r.triedBefore([]error{broke})
	if !p.settle(r) {
		return nil
	}
	p.metrics.again.Inc()
	r.meter.Received.Store(0)
	client.Again(request)
	return next
}

// hasAnother tells whether a cluster has an endpoint besides the one that
// failed.
func (p *Proxy) hasAnother(c *cluster, dst, failed netip.AddrPort) bool {
	for _, e := range p.candidates(c, dst) {
		if endpointAddr(e) != failed.String() {
			return true
		}
	}
	return false
}
