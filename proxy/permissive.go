package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// silentPeer is how long a client that has a sidecar may say nothing before the
// directory that says so is doubted. A sidecar starts TLS at once.
const silentPeer = 2 * time.Second

// permissive finds out what the client speaks, without a stall for protocols
// where the server speaks first.
//
// From an address that has a sidecar TLS is awaited, and from one of which it is not
// known yet whether it has. Otherwise the workload is
// connected at once, and whoever speaks first tells: the client, by its first
// byte; the workload, by a greeting, which is held for a moment in case the
// directory is behind and the client is a sidecar after all.
func (p *Proxy) permissive(r *row, s *settings, dst netip.AddrPort) (a arrival, err error) {
	source := r.snapshot().Source.Addr()
	why := s.whyPlaintext(source)
	if s.peers[source].Sidecar || s.unsure(source) {
		first, err := peekWithin(r.client, silentPeer)
		switch {
		case err == nil:
			if a.app, err = p.knock(r, s, dst); err != nil {
				return a, err
			}
			return p.byFirstByte(r, s, dst, a, first, why)
		case !errors.Is(err, os.ErrDeadlineExceeded) && err != io.EOF:
			return a, fmt.Errorf("wait for the client: %w", err)
		}
		if err := r.client.SetReadDeadline(time.Time{}); err != nil {
			return a, err
		}
	}
	if a.app, err = p.dialApp(r, dst); err != nil {
		return a, err
	}
	first, spoke, err := p.race(r)
	switch {
	case err != nil:
		return a, err
	case spoke:
		return p.byFirstByte(r, s, dst, a, first, why)
	}
	plain, err := p.inPlaintext(r, s, dst, why+", and has sent nothing")
	plain.app = a.app
	return plain, err
}

// byFirstByte takes a client that has spoken for what its first byte shows.
func (p *Proxy) byFirstByte(r *row, s *settings, dst netip.AddrPort, a arrival, first byte, why string) (arrival, error) {
	if first != recordHandshake {
		plain, err := p.inPlaintext(r, s, dst, why)
		plain.app = a.app
		return plain, err
	}
	err := r.client.SetReadDeadline(time.Now().Add(p.cfg.HandshakeTimeout))
	if err != nil {
		return a, err
	}
	h, head, ok := readHello(r.client)
	if ok && meshALPN(h.alpn) {
		a.client, err = p.terminate(r, p.server.config(s.minTLS), head)
		return a, err
	}
	if err := r.client.SetReadDeadline(time.Time{}); err != nil {
		return a, err
	}
	if len(head) == 0 {
		return a, fmt.Errorf("the client left: %w", io.EOF)
	}
	if len(p.probes.at(dst.Port()).https) > 0 && !p.welcome(r, s, mesh.PassedTLS) {
		err = p.askedInTLS(r, s, dst, &a, head)
		return a, err
	}
	r.set(func(f *mesh.Connection) {
		f.Security = mesh.PassedTLS
		f.Why = "the client's TLS is not the mesh's: it is passed to the workload"
	})
	r.traceHello(relay.ClientRandom(head))
	a.client = relay.TCP(r.client, head)
	return a, nil
}

func (p *Proxy) plaintext(r *row, why string) {
	r.set(func(f *mesh.Connection) { f.Security, f.Why = mesh.Plaintext, why })
}

// whyPlaintext says who a client is that speaks plaintext.
func (s *settings) whyPlaintext(source netip.Addr) string {
	peer, known := s.peers[source]
	switch {
	case !known && s.unsure(source):
		return "the control plane has not said who the client is"
	case !known:
		return "the client is not of the mesh"
	case !peer.Sidecar:
		return fmt.Sprintf("client %s has no sidecar", peer.Workload)
	}
	return fmt.Sprintf("client %s has a sidecar and spoke plaintext", peer.Workload)
}

// race waits for the first byte of either end, consuming none. spoke is false
// when the server was first and the client stayed silent for the hold, or the
// client has ended its stream without a byte.
func (p *Proxy) race(r *row) (first byte, spoke bool, err error) {
	type peeked struct {
		b   byte
		err error
	}
	look := func(c *net.TCPConn) <-chan peeked {
		ch := make(chan peeked, 1)
		go func() {
			b, err := relay.Peek(c)
			ch <- peeked{b, err}
		}()
		return ch
	}
	fromClient, fromApp := look(r.client), look(r.upstream)
	// Whoever is still waited for at the end is woken and its socket cleared
	// for the relay.
	defer func() {
		for _, w := range []struct {
			c  *net.TCPConn
			ch <-chan peeked
		}{{r.client, fromClient}, {r.upstream, fromApp}} {
			if w.ch != nil {
				_ = w.c.SetReadDeadline(time.Unix(1, 0))
				<-w.ch
				_ = w.c.SetReadDeadline(time.Time{})
			}
		}
	}()
	var hold <-chan time.Time
	for {
		select {
		case got := <-fromClient:
			fromClient = nil
			switch {
			case got.err == io.EOF:
				return 0, false, nil
			case got.err != nil:
				return 0, false, fmt.Errorf("wait for the client: %w", got.err)
			}
			return got.b, true, nil
		case <-fromApp: // its first bytes, its end or its failure: the relay will see
			fromApp = nil
			t := time.NewTimer(p.cfg.Hold)
			defer t.Stop()
			hold = t.C
		case <-hold:
			return 0, false, nil
		}
	}
}

// peekWithin is the first byte of c if it comes in time.
func peekWithin(c *net.TCPConn, d time.Duration) (byte, error) {
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		return 0, err
	}
	b, err := relay.Peek(c)
	if err == nil {
		err = c.SetReadDeadline(time.Time{})
	}
	return b, err
}
