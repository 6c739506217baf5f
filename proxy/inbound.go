package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"hasp/mesh"
	"hasp/policy/judge"
	"hasp/proxy/relay"
)

// recordHandshake is the first byte of a TLS connection: the content type of
// the record that carries the ClientHello (RFC 8446, section 5.1).
const recordHandshake = 0x16

var (
	errPlaintext     = errors.New("the client spoke plaintext")
	errNobodyListens = errors.New("the workload does not listen on the port")
)

// inbound is the life of a connection made to the workload.
func (p *Proxy) inbound(r *row) {
	s, dst, err := p.begin(r)
	if err != nil {
		p.refuse(r, mesh.StageDial, err)
		return
	}
	s = p.meet(s, addrPort(r.client.RemoteAddr()).Addr())
	port := s.inboundPort(dst.Port())
	r.set(func(f *mesh.Connection) {
		f.Service, f.Protocol = port.Service, port.Protocol
		f.LocalIdentity = s.config.Identity
		f.PeerWorkload = s.peers[f.Source.Addr()].Workload
		f.Mode, f.Rule, f.Generation = string(port.Mode), port.Origin, s.config.Generation
	})
	var a arrival
	switch port.Mode {
	case mesh.ModeDisable:
		a, err = p.inPlaintext(r, s, dst, judge.Demand("DISABLE", port.Origin))
	case mesh.ModePermissive, mesh.ModeUnset:
		a, err = p.permissive(r, s, dst)
	default:
		a, err = p.strict(r, s, dst)
	}
	if err != nil {
		p.refuseEarly(r, err)
		return
	}
	if !p.settle(r) {
		return
	}
	if a.answer != nil {
		a.answer()
		return
	}
	if a.app == nil {
		if a.app, err = p.dialApp(r, dst); err != nil {
			p.refuse(r, mesh.StageDial, err)
			return
		}
	}
	p.carry(r, a.client, a.app)
}

// refuseEarly ends a connection whose client has not shown what it is. One that
// was there and left without a word did not fail.
func (p *Proxy) refuseEarly(r *row, err error) {
	if _, left := reasonOf(err); left && !r.said() {
		r.refuse(err.Error())
		return
	}
	p.refuse(r, mesh.StageHandshake, err)
}

// arrival is a client whose facts are known, for settle to decide about.
type arrival struct {
	client *relay.Side
	app    *relay.Side // nil while the workload has not been dialled
	answer func()      // for a probe: asks and answers, instead of carrying
}

// inPlaintext is a client that speaks plaintext where the mode has nothing
// against it. Where an authorization has, it may be one of the workload's
// declared probes; whatever it sends is waited for only then.
func (p *Proxy) inPlaintext(r *row, s *settings, dst netip.AddrPort, why string) (arrival, error) {
	a := arrival{client: relay.TCP(r.client, nil)}
	if p.probes.any(dst.Port()) && !p.welcome(r, s, mesh.Plaintext) {
		if err := r.client.SetReadDeadline(time.Now().Add(p.cfg.HandshakeTimeout)); err != nil {
			return a, err
		}
		first, err := relay.Peek(r.client)
		if err := p.asked(r, s, dst, &a, first, err); err != nil {
			return a, err
		}
	}
	if a.answer == nil {
		p.plaintext(r, why)
	}
	return a, nil
}

// welcome tells whether a client would be let in if that is what it speaks.
func (p *Proxy) welcome(r *row, s *settings, security mesh.Security) bool {
	f := r.snapshot()
	f.Security = security
	return decide(s, &f).Allow
}

// strict wants mutual TLS, or one of the workload's declared probes. Any other
// client that speaks plaintext gets no byte for an answer, not even an alert:
// that is noted here and refused by settle, the one place that decides.
func (p *Proxy) strict(r *row, s *settings, dst netip.AddrPort) (arrival, error) {
	if err := r.client.SetReadDeadline(time.Now().Add(p.cfg.HandshakeTimeout)); err != nil {
		return arrival{}, err
	}
	first, silent := relay.Peek(r.client)
	if silent == nil && first == recordHandshake {
		return p.strictTLS(r, s, dst)
	}
	a := arrival{client: relay.TCP(r.client, nil)}
	if err := p.asked(r, s, dst, &a, first, silent); err != nil || a.answer != nil {
		return a, err
	}
	if silent != nil {
		return a, fmt.Errorf("wait for TLS: %w", silent)
	}
	p.strangerSpoke(r)
	return a, nil
}

// strictTLS runs the server's handshake. A client without a certificate may
// still be an HTTPS probe.
func (p *Proxy) strictTLS(r *row, s *settings, dst netip.AddrPort) (a arrival, err error) {
	if a.app, err = p.knock(r, s, dst); err != nil {
		return a, err
	}
	if len(p.probes.at(dst.Port()).https) > 0 {
		err = p.askedInTLS(r, s, dst, &a, nil)
	} else {
		a.client, err = p.terminate(r, p.server.config(s.minTLS), nil)
	}
	return a, err
}

// knock finds out, before a handshake, that the workload is there. If it is
// not, because it is about to end and no longer listens, the handshake fails and
// the client's proxy goes to another endpoint; after it, what the client has
// said already would be lost. A workload that the directory says has a sidecar
// is dialled for at once, anybody else only once he has proved who he is.
func (p *Proxy) knock(r *row, s *settings, dst netip.AddrPort) (*relay.Side, error) {
	if s.peers[r.snapshot().Source.Addr()].Sidecar {
		return p.dialApp(r, dst)
	}
	if ok, _ := p.listening(dst); !ok {
		p.fail(r, mesh.StageDial, errNobodyListens)
		return nil, errNobodyListens
	}
	return nil, nil
}

// terminate runs the server's handshake; head is what was read already. Only a
// configuration for probes lets a client without a certificate through.
func (p *Proxy) terminate(r *row, config *tls.Config, head []byte) (*relay.Side, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.cfg.HandshakeTimeout)
	defer cancel()
	h := new(hand)
	if own, err := p.cfg.Identity.Certificate(); err == nil { // else the handshake says so
		h.own = own.Leaf
	}
	sock := relay.NewSocket(r.client, head)
	if p.shares {
		config = sock.ForServer(config)
	}
	side, cs, err := serverHandshake(withOffer(ctx, &h.offered), config, sock)
	if err == nil {
		p.certs.share(cs)
	}
	h.sni = cs.ServerName
	r.traceHello(sock.ClientRandom())
	h = p.shown(r, h, cs)
	if err != nil {
		p.metrics.handshakeFailed("server", err)
		p.fail(r, mesh.StageHandshake, err)
		return nil, fmt.Errorf("tls handshake: %w", err)
	}
	if len(cs.PeerCertificates) == 0 {
		r.set(func(f *mesh.Connection) {
			tlsFacts(f, cs)
			f.Security = mesh.SimpleTLS
		})
		return side, nil
	}
	id, err := peerIdentity(cs)
	if err != nil {
		return nil, err
	}
	r.set(func(f *mesh.Connection) {
		tlsFacts(f, cs)
		f.Security = mesh.MutualTLS
		f.PeerIdentity = id.String()
	})
	if cs.NegotiatedProtocol == alpnTrunk {
		t := p.newTrunk(r, side, cs, h)
		t.inbound, t.local = true, r.snapshot().Destination
	}
	return side, nil
}

// dialApp connects to the workload itself.
func (p *Proxy) dialApp(r *row, dst netip.AddrPort) (*relay.Side, error) {
	tcp, err := p.dial(p.ctx, dst.String())
	if err != nil {
		err = fmt.Errorf("the workload does not answer: %w", err)
		p.fail(r, mesh.StageDial, err)
		return nil, err
	}
	if !r.attach(tcp) {
		return nil, errCut
	}
	return relay.TCP(tcp, nil), nil
}

// serverHandshake is the server's half. The state is also of one that failed.
func serverHandshake(ctx context.Context, config *tls.Config, sock *relay.Socket) (*relay.Side, *tls.ConnectionState, error) {
	conn := tls.Server(sock, config)
	err := conn.HandshakeContext(ctx)
	cs := conn.ConnectionState()
	if err != nil {
		return nil, &cs, err
	}
	return relay.TLS(conn, sock, true), &cs, nil
}
