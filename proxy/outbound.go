package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// outbound is the life of a connection that the workload makes.
func (p *Proxy) outbound(r *row) {
	s, dst, err := p.begin(r)
	if err != nil {
		r.refuse(err.Error())
		return
	}
	client := relay.TCP(r.client, nil)
	c := s.route(dst)
	if c == nil {
		p.passthrough(r, client, dst)
		return
	}
	r.set(func(f *mesh.Connection) {
		f.Service, f.Cluster, f.Protocol = c.Hostname, c.Name, c.Protocol
		f.LocalIdentity = s.config.Identity
	})
	up, err := p.connect(p.ctx, r, s, c, dst)
	if err != nil {
		r.refuse(err.Error())
		p.sayUnreachable(r, s, client, err)
		return
	}
	if !p.settle(r) {
		return
	}
	p.carry(r, client, up)
}

// begin finds out where a captured connection was going, and refuses what can
// not be served at all.
func (p *Proxy) begin(r *row) (*settings, netip.AddrPort, error) {
	s := p.settings.Load()
	if s == nil {
		return nil, netip.AddrPort{}, errNoConfiguration
	}
	dst, err := p.cfg.OrigDst(r.client)
	if err != nil {
		return nil, dst, fmt.Errorf("original destination: %w", err)
	}
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	r.set(func(f *mesh.Connection) { f.Destination = dst })
	local := addrPort(r.client.LocalAddr())
	if dst == local || dst.Addr() == local.Addr() && slices.Contains(p.cfg.OwnPorts, dst.Port()) {
		// Nobody redirected it: dialling that would be dialling ourselves.
		return nil, dst, fmt.Errorf("%s is the proxy's own port and the connection would loop", dst)
	}
	return s, dst, nil
}

// passthrough carries a connection to an address that no service claims.
func (p *Proxy) passthrough(r *row, client *relay.Side, dst netip.AddrPort) {
	r.set(func(f *mesh.Connection) {
		f.Cluster = "PassthroughCluster"
		f.Security = mesh.Plaintext
		f.Why = fmt.Sprintf("no service claims %s", dst)
	})
	if !p.settle(r) {
		return
	}
	tcp, err := p.dial(p.ctx, dst.String())
	if err != nil {
		r.refuse(err.Error())
		return
	}
	if r.attach(tcp) {
		p.carry(r, client, relay.TCP(tcp, nil))
	}
}

// connect reaches an endpoint of the cluster and speaks TLS to it at once, if
// the cluster's rule says TLS: it never waits for the workload's first byte,
// so that protocols where the server speaks first work.
func (p *Proxy) connect(ctx context.Context, r *row, s *settings, c *cluster, dst netip.AddrPort) (*relay.Side, error) {
	var last error
	for _, e := range p.candidates(c, dst) {
		u, why, err := p.clientTLS(s, c, e)
		if err != nil {
			return nil, err
		}
		addr := endpointAddr(e)
		tcp, err := p.dial(ctx, addr)
		if err != nil {
			p.health.failed(addr)
			last = err
			continue
		}
		p.health.ok(addr)
		if !r.attach(tcp) {
			return nil, errors.New("the configuration changed meanwhile")
		}
		r.set(func(f *mesh.Connection) { f.PeerWorkload = e.Workload })
		if u == nil {
			r.set(func(f *mesh.Connection) { f.Security, f.Why = mesh.Plaintext, why })
			return relay.TCP(tcp, nil), nil
		}
		return p.secure(ctx, r, u, relay.NewSocket(tcp, nil))
	}
	if last == nil {
		last = fmt.Errorf("%s has no endpoint", c.Hostname)
	}
	return nil, last
}

// secure runs the client's handshake and takes down what it agreed on.
func (p *Proxy) secure(ctx context.Context, r *row, u *upstreamTLS, sock *relay.Socket) (*relay.Side, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.HandshakeTimeout)
	defer cancel()
	side, cs, err := u.handshake(ctx, sock)
	if err != nil {
		p.metrics.handshakeFailed("client", err)
		return nil, fmt.Errorf("tls to %s: %w", addrPort(sock.RemoteAddr()), err)
	}
	r.set(func(f *mesh.Connection) {
		tlsFacts(f, cs)
		f.Security = u.security
		if id, err := peerIdentity(cs); err == nil {
			f.PeerIdentity = id.String()
		}
	})
	return side, nil
}
