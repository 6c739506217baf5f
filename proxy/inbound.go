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

var (
	errPlaintext     = errors.New("the client spoke plaintext")
	errNobodyListens = errors.New("the workload does not listen on the port")
)

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
	var answer func() // for a probe, instead of carrying
	switch port.Mode {
	case mesh.ModeDisable:
		r.set(func(f *mesh.Connection) {
			f.Security, f.Why = mesh.Plaintext, demand("DISABLE", port.Origin)
		})
		client = relay.TCP(r.client, nil)
	case mesh.ModePermissive, mesh.ModeUnset:
		client, app, err = p.permissive(r, s, dst)
	default:
		client, answer, err = p.strict(r, s, dst)
	}
	if err != nil {
		r.refuse(err.Error())
		return
	}
	if !p.settle(r) {
		return
	}
	if answer != nil {
		answer()
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

// strict wants mutual TLS, or one of the workload's declared probes, whose
// answer is then a function to call once settled. Any other client that speaks
// plaintext gets no byte for an answer, not even an alert: that is noted here
// and refused by settle, the one place that decides.
func (p *Proxy) strict(r *row, s *settings, dst netip.AddrPort) (client *relay.Side, answer func(), err error) {
	if err := r.client.SetReadDeadline(time.Now().Add(p.cfg.HandshakeTimeout)); err != nil {
		return nil, nil, err
	}
	client = relay.TCP(r.client, nil)
	first, err := relay.Peek(r.client)
	switch {
	case err != nil && p.probes.at(dst.Port()).tcp && gone(err):
		p.probed(r, "TCP probe: the client said nothing")
		return client, r.finishInOrder, nil
	case err != nil:
		return nil, nil, fmt.Errorf("wait for TLS: %w", err)
	case first == recordHandshake:
		return p.strictTLS(r, s, dst)
	}
	if answer = p.plaintextProbe(r, client, dst); answer == nil {
		p.strangerSpoke(r)
	}
	return client, answer, nil
}

// strictTLS runs the server's handshake. A client without a certificate may
// still be an HTTPS probe.
func (p *Proxy) strictTLS(r *row, s *settings, dst netip.AddrPort) (client *relay.Side, answer func(), err error) {
	questions := p.probes.at(dst.Port()).https
	if len(questions) == 0 {
		client, err = p.terminate(r, p.server.config(s.minTLS), nil)
		return client, nil, err
	}
	client, err = p.terminate(r, p.server.probeConfig(s.minTLS), nil)
	if err != nil || r.snapshot().Security == mesh.MutualTLS {
		return client, nil, err
	}
	return client, p.httpProbe(r, client, questions, dst), nil
}

// terminate runs the server's handshake; head is what was read already. Only a
// configuration for probes lets a client without a certificate through.
func (p *Proxy) terminate(r *row, config *tls.Config, head []byte) (*relay.Side, error) {
	if ok, _ := p.listening(r.snapshot().Destination); !ok {
		return nil, errNobodyListens
	}
	ctx, cancel := context.WithTimeout(p.ctx, p.cfg.HandshakeTimeout)
	defer cancel()
	side, cs, err := serverHandshake(ctx, config, relay.NewSocket(r.client, head))
	if err != nil {
		p.metrics.handshakeFailed("server", err)
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
