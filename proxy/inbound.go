package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// recordHandshake is the first byte of a TLS connection: the content type of
// the record that carries the ClientHello (RFC 8446, section 5.1).
const recordHandshake = 0x16

var errPlaintext = errors.New("the client spoke plaintext")

// inbound is the life of a connection made to the workload.
func (p *Proxy) inbound(r *row) {
	s, dst, err := p.begin(r)
	if err != nil {
		r.refuse(err.Error())
		return
	}
	port := s.inboundPort(dst.Port())
	r.set(func(f *mesh.Connection) {
		f.Service, f.Protocol = port.Service, port.Protocol
		f.LocalIdentity = s.config.Identity
		f.PeerWorkload = s.peers[f.Source.Addr()].Workload
		f.Mode, f.Rule, f.Generation = string(port.Mode), port.Origin, s.config.Generation
	})
	var client, app *relay.Side
	switch port.Mode {
	case mesh.ModeDisable:
		r.set(func(f *mesh.Connection) {
			f.Security, f.Why = mesh.Plaintext, demand("DISABLE", port.Origin)
		})
		client = relay.TCP(r.client, nil)
	case mesh.ModePermissive, mesh.ModeUnset:
		client, app, err = p.permissive(r, s, dst)
	default:
		client, err = p.strict(r, s)
	}
	if err != nil {
		r.refuse(err.Error())
		return
	}
	if !p.settle(r) {
		return
	}
	if app == nil {
		if app, err = p.dialApp(r, dst); err != nil {
			r.refuse(err.Error())
			return
		}
	}
	p.carry(r, client, app)
}

// strict wants mutual TLS. A client that speaks plaintext gets no byte for an
// answer, not even an alert: that is noted here and refused by settle, the one
// place that decides.
func (p *Proxy) strict(r *row, s *settings) (*relay.Side, error) {
	if err := r.client.SetReadDeadline(time.Now().Add(p.cfg.HandshakeTimeout)); err != nil {
		return nil, err
	}
	first, err := relay.Peek(r.client)
	if err != nil {
		return nil, fmt.Errorf("wait for TLS: %w", err)
	}
	if first != recordHandshake {
		p.metrics.handshakeFailed("server", errPlaintext)
		peer, known := s.peers[r.snapshot().Source.Addr()]
		p.plaintext(r, whyPlaintext(peer, known))
		return relay.TCP(r.client, nil), nil
	}
	return p.terminate(r, s, nil)
}

// terminate runs the server's handshake; head is what was read already.
func (p *Proxy) terminate(r *row, s *settings, head []byte) (*relay.Side, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.cfg.HandshakeTimeout)
	defer cancel()
	side, cs, err := serverHandshake(ctx, p.server.config(s.minTLS), relay.NewSocket(r.client, head))
	if err != nil {
		p.metrics.handshakeFailed("server", err)
		return nil, fmt.Errorf("tls handshake: %w", err)
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
	return side, nil
}

// dialApp connects to the workload itself.
func (p *Proxy) dialApp(r *row, dst netip.AddrPort) (*relay.Side, error) {
	tcp, err := p.dial(p.ctx, dst.String())
	if err != nil {
		return nil, fmt.Errorf("the workload does not answer: %w", err)
	}
	if !r.attach(tcp) {
		return nil, errors.New("the configuration changed meanwhile")
	}
	return relay.TCP(tcp, nil), nil
}

func serverHandshake(ctx context.Context, config *tls.Config, sock *relay.Socket) (*relay.Side, *tls.ConnectionState, error) {
	conn := tls.Server(sock, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, nil, err
	}
	cs := conn.ConnectionState()
	return relay.TLS(conn, sock, true), &cs, nil
}
