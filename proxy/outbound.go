package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"hasp/mesh"
	"hasp/policy/judge"
	"hasp/proxy/relay"
)

// outbound is the life of a connection that the workload makes.
func (p *Proxy) outbound(r *row) {
	s, dst, err := p.begin(r)
	if err != nil {
		p.refuse(r, mesh.StageDial, err)
		return
	}
	if s, err = p.find(s, dst); err != nil {
		p.refuse(r, mesh.StageDial, err)
		return
	}
	client := relay.TCP(r.client, nil)
	c := s.route(dst)
	if c == nil {
		p.passThrough(r, client, dst)
		return
	}
	r.goesTo(s, c)
	up, err := p.connect(p.ctx, r, s, c, dst)
	if err != nil {
		p.refuse(r, mesh.StageDial, err)
		p.sayUnreachable(r, s, client, err)
		return
	}
	if !p.settle(r) {
		return
	}
	p.carryTo(r, client, up, maxAgain)
}

// goesTo notes the cluster that a connection is for.
func (r *row) goesTo(s *settings, c *cluster) {
	r.set(func(f *mesh.Connection) {
		f.Service, f.Cluster, f.Protocol = c.Hostname, c.Name, c.Protocol
		f.LocalIdentity = s.config.Identity
	})
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
	r.set(func(f *mesh.Connection) {
		f.Destination = dst
		f.Trace = r.ownTrace(f)
	})
	local := addrPort(r.client.LocalAddr())
	if dst == local || dst.Addr() == local.Addr() && slices.Contains(p.cfg.OwnPorts, dst.Port()) {
		// Nobody redirected it: dialling that would be dialling ourselves.
		return nil, dst, fmt.Errorf("%s is the proxy's own port and the connection would loop", dst)
	}
	return s, dst, nil
}

// passthrough is Istio's name for where connections go that no service claims.
const passthrough = "PassthroughCluster"

// passThrough carries a connection to an address that no service claims.
func (p *Proxy) passThrough(r *row, client *relay.Side, dst netip.AddrPort) {
	r.set(func(f *mesh.Connection) {
		f.Cluster = passthrough
		f.Security = mesh.Plaintext
		f.Why = fmt.Sprintf("no service claims %s", dst)
	})
	if !p.settle(r) {
		return
	}
	tcp, err := p.dial(p.ctx, dst.String())
	if err != nil {
		p.refuse(r, mesh.StageDial, err)
		return
	}
	if r.attach(tcp) {
		p.carry(r, client, relay.TCP(tcp, nil))
	}
}

// connect reaches an endpoint of the cluster and speaks TLS to it at once, if
// the cluster's rule says TLS: it never waits for the workload's first byte,
// so that protocols where the server speaks first work.
//
// An endpoint that is not reached, or whose handshake fails, is left for the
// next, at most maxAttempts in all: nothing of what the client says has been
// sent by then. Afterwards nothing is tried twice.
func (p *Proxy) connect(ctx context.Context, r *row, s *settings, c *cluster, dst netip.AddrPort) (*relay.Side, error) {
	r.set(func(f *mesh.Connection) { // what decides, should it come to nothing
		f.Mode, f.Rule, f.Generation = judge.ClientMode(c.TLS), c.TLS.Origin, s.config.Generation
	})
	var failed []error
	for _, e := range p.candidates(c, dst) {
		if n := len(failed); n > 0 {
			p.leave(r.attempt(), mesh.StageHandshake, failed[n-1])
		}
		side, err := p.reach(ctx, r, s, c, e)
		if err == nil {
			r.triedBefore(failed)
			return side, nil
		}
		failed = append(failed, err)
		var final *finalError
		if errors.As(err, &final) || ctx.Err() != nil {
			break
		}
		p.health.failed(endpointAddr(e))
	}
	switch n := len(failed); n {
	case 0:
		return nil, fmt.Errorf("%s %w", c.Hostname, errNoEndpoint)
	case 1:
		return nil, failed[0]
	default:
		return nil, fmt.Errorf("%w (the last of %d endpoints)", failed[n-1], n)
	}
}

var (
	errNoEndpoint = errors.New("has no endpoint")
	errCut        = errors.New("the configuration changed meanwhile")
)

// finalError is a failure that another endpoint would not mend.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

// reach makes the connection to one endpoint.
func (p *Proxy) reach(ctx context.Context, r *row, s *settings, c *cluster, e *mesh.Endpoint) (*relay.Side, error) {
	if !r.begin(e) {
		return nil, &finalError{errCut}
	}
	trunks := p.cfg.trunks() && !s.config.Settings.NoTrunks && r.client != nil // a gateway's requests have a pool of their own
	u, why, err := p.clientTLS(s, c, e, trunks)
	if err != nil {
		p.fail(r, mesh.StageHandshake, err)
		return nil, &finalError{err}
	}
	addr := endpointAddr(e)
	if trunks && u != nil && u.mesh {
		if side := p.ontoTrunk(ctx, r, u, e); side != nil {
			p.health.ok(addr)
			return side, nil
		}
	}
	tcp, err := p.dial(ctx, addr)
	if err != nil {
		p.fail(r, mesh.StageDial, err)
		return nil, err
	}
	if !r.attach(tcp) {
		return nil, &finalError{errCut}
	}
	if u == nil {
		p.health.ok(addr)
		r.set(func(f *mesh.Connection) { f.Security, f.Why = mesh.Plaintext, why })
		return relay.TCP(tcp, nil), nil
	}
	side, err := p.secure(ctx, r, u, relay.NewSocket(tcp, nil))
	if err != nil {
		relay.Reset(tcp)
		if errors.Is(err, errNoCertificate) {
			err = &finalError{err}
		}
		return nil, err
	}
	p.health.ok(addr)
	return side, nil
}

// triedBefore notes the endpoints that were left for the one that took the
// connection.
func (r *row) triedBefore(failed []error) {
	if len(failed) == 0 {
		return
	}
	texts := make([]string, len(failed))
	for i, err := range failed {
		texts[i] = err.Error()
	}
	r.set(func(f *mesh.Connection) {
		if f.Why != "" {
			f.Why += "; "
		}
		f.Why += "tried before: " + strings.Join(texts, "; ")
	})
}

// secure runs the client's handshake and takes down what it agreed on.
func (p *Proxy) secure(ctx context.Context, r *row, u *upstreamTLS, sock *relay.Socket) (*relay.Side, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.HandshakeTimeout)
	defer cancel()
	h := u.hand(p.cfg.Identity)
	side, cs, err := u.handshake(ctx, sock, p.shares && r.client != nil)
	r.traceHello(sock.ClientRandom())
	h = p.shown(r, h, cs)
	if err != nil {
		p.metrics.handshakeFailed("client", err)
		p.fail(r, mesh.StageHandshake, err)
		return nil, fmt.Errorf("tls to %s: %w", addrPort(sock.RemoteAddr()), err)
	}
	r.set(func(f *mesh.Connection) {
		tlsFacts(f, cs)
		f.Security = u.security
		if id, err := peerIdentity(cs); err == nil {
			f.PeerIdentity = id.String()
		}
	})
	if cs.NegotiatedProtocol == alpnTrunk {
		t := p.newTrunk(r, side, cs, h)
		t.how = u.key
	}
	return side, nil
}
