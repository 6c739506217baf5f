package proxy

import (
	"net/http"
	"net/netip"
)

// againTransport sends a request of a gateway to another endpoint, under the
// rules of again: net/http itself does so only on connections it has used
// before.
type againTransport struct {
	p    *Proxy
	q    *request
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *againTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	for left := maxAgain; ; left-- {
		t.q.travelsOn(nil)
		res, err := t.next.RoundTrip(r)
		if err == nil || left == 0 || !safe(r.Method) || r.Body != nil && r.Body != http.NoBody || r.Context().Err() != nil {
			return res, err
		}
		row := t.q.row.Load()
		if row == nil {
			return nil, err // no endpoint took a connection: connect has tried others
		}
		failed := row.snapshot().Upstream
		if !t.p.hasAnother(t.q.cluster, netip.AddrPort{}, failed) {
			return nil, err
		}
		t.p.health.failed(failed.String())
		t.p.metrics.again.Inc()
		t.q.log.Why = "tried before: " + err.Error()
	}
}
