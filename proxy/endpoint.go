package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"hasp/mesh"
)

const (
	// maxAttempts bounds how many endpoints one connection tries.
	maxAttempts = 3
	// failedFor is how long an endpoint that could not be reached is passed
	// over while others are there.
	failedFor = 10 * time.Second
	// maxFailed bounds the memory of failures.
	maxFailed = 4096
)

// candidates are the endpoints to try, in order: the next in turn first, those
// that failed lately last.
func (p *Proxy) candidates(c *cluster, dst netip.AddrPort) []*mesh.Endpoint {
	if c.OriginalDst && dst.IsValid() { // a gateway has none
		return []*mesh.Endpoint{originalEndpoint(c, dst)}
	}
	all := c.v4
	if dst.IsValid() && dst.Addr().Unmap().Is6() {
		all = c.v6
	}
	n := len(all)
	if n == 0 {
		return nil
	}
	first := int(c.turn.Add(1)-1) % n
	out := make([]*mesh.Endpoint, 0, min(n, maxAttempts))
	var failed []*mesh.Endpoint
	for i := range n {
		e := all[(first+i)%n]
		if p.health.healthy(endpointAddr(e)) {
			if out = append(out, e); len(out) == maxAttempts {
				return out
			}
		} else if len(failed) < maxAttempts {
			failed = append(failed, e)
		}
	}
	return append(out, failed...)[:min(len(out)+len(failed), maxAttempts)]
}

// family is the endpoints of one address family, that of the address which the
// workload dialled: a server need not listen on both of its addresses, and who
// dialled IPv4 means the one that does so. Without any, it is all of them.
func family(list []mesh.Endpoint, v4 bool) []*mesh.Endpoint {
	var same, all []*mesh.Endpoint
	for i := range list {
		e := &list[i]
		if all = append(all, e); !e.Addr.IsValid() || e.Addr.Unmap().Is4() == v4 {
			same = append(same, e)
		}
	}
	if len(same) == 0 {
		return all
	}
	return same
}

// originalEndpoint is the endpoint at the address the workload dialled, or a
// bare one when the cluster does not know the address.
func originalEndpoint(c *cluster, dst netip.AddrPort) *mesh.Endpoint {
	for i := range c.Endpoints {
		if e := &c.Endpoints[i]; e.Addr.Unmap() == dst.Addr() && e.Port == dst.Port() {
			return e
		}
	}
	return &mesh.Endpoint{Addr: dst.Addr(), Port: dst.Port()}
}

func endpointAddr(e *mesh.Endpoint) string {
	if e.Addr.IsValid() {
		return netip.AddrPortFrom(e.Addr, e.Port).String()
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
}

// dial makes one attempt to reach addr.
func (p *Proxy) dial(ctx context.Context, addr string) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.connectTimeout())
	defer cancel()
	c, err := p.cfg.Dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("dial %s: got a %T, not TCP", addr, c)
	}
	return tcp, nil
}

// endpointHealth remembers which addresses could not be reached, across
// configurations.
type endpointHealth struct {
	now func() time.Time
	mu  sync.Mutex
	bad map[string]time.Time // until when
}

func newEndpointHealth(now func() time.Time) *endpointHealth {
	return &endpointHealth{now: now, bad: make(map[string]time.Time)}
}

func (h *endpointHealth) failed(addr string) {
	now := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.bad) >= maxFailed {
		for a, until := range h.bad {
			if now.After(until) {
				delete(h.bad, a)
			}
		}
	}
	if len(h.bad) < maxFailed {
		h.bad[addr] = now.Add(failedFor)
	}
}

func (h *endpointHealth) ok(addr string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.bad, addr)
}

func (h *endpointHealth) healthy(addr string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	until, bad := h.bad[addr]
	return !bad || h.now().After(until)
}
