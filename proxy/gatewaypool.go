package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// upstreamPool holds the gateway's connections to one cluster under one policy.
// When the policy changes the pool is another one, so that a request never
// travels on a connection made under an older rule.
type upstreamPool struct {
	transport *http.Transport
}

// poolKey names a cluster together with everything that decides how it may be
// spoken to.
func poolKey(s *settings, c *cluster) string {
	policy, err := json.Marshal(c.TLS)
	if err != nil {
		return c.Name // not possible for a plain struct
	}
	return c.Name + " " + s.config.TrustDomain + " " + s.config.MinTLS + " " + string(policy)
}

// pool is the cluster's, made when first needed.
func (g *gateways) pool(s *settings, c *cluster) *upstreamPool {
	key := poolKey(s, c)
	g.mu.Lock()
	defer g.mu.Unlock()
	if u := g.pools[key]; u != nil {
		return u
	}
	name := c.Name
	t := &http.Transport{
		// The address means nothing: the connection goes to the cluster of the
		// moment.
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return g.p.dialCluster(ctx, name) },
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
		Protocols:           new(http.Protocols),
	}
	if c.Protocol == mesh.HTTP2 || c.Protocol == mesh.GRPC {
		t.Protocols.SetUnencryptedHTTP2(true) // TLS, if any, is below what net/http sees
	} else {
		t.Protocols.SetHTTP1(true)
	}
	u := &upstreamPool{transport: t}
	g.pools[key] = u
	return u
}

// keepPools lets go of the pools that no cluster of s uses (of all, for nil).
// What they still carry ends by itself, or by the sweep.
func (g *gateways) keepPools(s *settings) {
	keep := make(map[string]bool)
	if s != nil {
		for _, c := range s.clusters {
			keep[poolKey(s, c)] = true
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for key, u := range g.pools {
		if !keep[key] {
			u.transport.CloseIdleConnections()
			delete(g.pools, key)
		}
	}
}

// dialCluster opens one connection from the gateway to a cluster: the outbound
// path of a sidecar without a client behind it. The row lives as long as the
// connection.
func (p *Proxy) dialCluster(ctx context.Context, name string) (net.Conn, error) {
	s := p.settings.Load()
	c := s.clusters[name]
	if c == nil {
		return nil, errors.New("the cluster is gone")
	}
	r := p.table.open(mesh.OutboundDir, nil, p.cfg.Now())
	if r == nil {
		p.metrics.overload.Inc()
		return nil, errors.New("the connection table is full")
	}
	r.goesTo(s, c)
	up, err := p.connect(ctx, r, s, c, netip.AddrPort{})
	if err != nil {
		p.refuse(r, mesh.StageDial, err)
	} else if !p.settle(r) {
		err = errors.New(r.snapshot().Why)
	}
	if err != nil {
		p.end(r)
		return nil, &unmadeError{err, r.snapshot()}
	}
	p.metrics.identify(r, s)
	return &gatewayConn{Conn: up.Conn(), side: up, p: p, row: r}, nil
}

// unmadeError is a connection that did not come about.
type unmadeError struct {
	error
	facts mesh.Connection
}

func (e *unmadeError) Unwrap() error { return e.error }

// gatewayConn is a pooled upstream connection and its row.
type gatewayConn struct {
	net.Conn
	side *relay.Side
	p    *Proxy
	row  *row
	once sync.Once
}

// Read implements net.Conn.
func (c *gatewayConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.row.meter.Sent.Add(uint64(n))
	c.row.meter.Touch(c.p.cfg.Now())
	if err != nil && err != io.EOF && n == 0 { // an idle one may end in order
		c.p.failAnswer(c.row, err)
	}
	return n, err
}

// Write implements net.Conn.
func (c *gatewayConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.row.meter.Received.Add(uint64(n))
	c.row.meter.Touch(c.p.cfg.Now())
	return n, err
}

// Close implements net.Conn; it also ends the row.
func (c *gatewayConn) Close() error {
	err := c.side.Close()
	c.once.Do(func() {
		c.row.finishInOrder()
		c.p.end(c.row)
	})
	return err
}
