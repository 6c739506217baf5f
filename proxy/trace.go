package proxy

import (
	"crypto/rand"
	"net/netip"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// A connection's trace is the same at both of its ends, because it is made of
// what both see. That is, first, the addresses of its two sockets: they are
// known at once, and a plaintext connection has nothing else. When the first
// bytes that travel turn out to be a ClientHello, whoever's TLS it is, its
// random takes their place: addresses come again, a random does not.

// traceHello names a connection by the ClientHello it began with; nil changes
// nothing.
func (r *row) traceHello(random []byte) {
	if random == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write(func(f *mesh.Connection) { f.Trace = mesh.TraceOf(random, netip.AddrPort{}, netip.AddrPort{}) })
	r.helloSeen = true
}

// traceRefused names a connection that was refused before it was named as it
// should be: for want of an endpoint, or before its ClientHello was read, which
// the client's proxy has named it by. Callers hold mu.
func (r *row) traceRefused() {
	f := r.facts.write(r.id)
	if f.Trace == "" {
		f.Trace = r.ownTrace(f)
	}
	if f.Direction != mesh.InboundDir || r.client == nil || r.helloSeen {
		return
	}
	if random := relay.PeekRandom(r.client); random != nil {
		f.Trace = mesh.TraceOf(random, netip.AddrPort{}, netip.AddrPort{})
	}
}

// ownTrace names a connection that has no other end, or none yet. Callers hold
// mu.
func (r *row) ownTrace(f *mesh.Connection) string {
	if r.client == nil {
		var b [32]byte
		_, _ = rand.Read(b[:]) // never fails
		return mesh.TraceOf(b[:], netip.AddrPort{}, netip.AddrPort{})
	}
	server := f.Destination
	if !server.IsValid() {
		server = addrPort(r.client.LocalAddr())
	}
	return mesh.TraceOf(nil, f.Source, server)
}
