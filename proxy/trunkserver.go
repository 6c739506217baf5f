package proxy

import (
	"fmt"
	"net/netip"

	"hasp/mesh"
)

// A hello is one byte that says so and a random, which becomes the connection's
// trace at both ends as a ClientHello's does. The answer is one byte.
const (
	helloByte   = 1
	welcomeByte = 2
	refusedByte = 3 // by policy
	absentByte  = 4 // nobody listens
	helloSize   = 1 + 32
)

// readHelloOnTrunk is the random of a hello.
func readHelloOnTrunk(p []byte) ([]byte, error) {
	if len(p) != helloSize || p[0] != helloByte {
		return nil, fmt.Errorf("%w: %d bytes that are no hello", errTrunkSaid, len(p))
	}
	return p[1:], nil
}

// hello is called with what comes on an idle trunk of a server.
func (t *trunk) hello(b []byte, err error) {
	p := t.p
	if !p.trunks.claim(t, &p.conns) {
		return // it is being closed
	}
	taken := false
	defer func() {
		if !taken {
			p.conns.Done()
		}
	}()
	var random []byte
	if err == nil {
		random, err = readHelloOnTrunk(b)
	}
	if err == nil {
		err = t.good()
	}
	if err != nil {
		t.side.Close()
		return
	}
	r := p.table.open(mesh.InboundDir, nil, p.cfg.Now())
	if r == nil {
		p.metrics.overload.Inc()
		t.side.Reset()
		return
	}
	p.facts.poke()
	taken = true
	r.frames.Add(1)
	p.frame(r, func() { p.inboundOnTrunk(r, t, random) })
}

// inboundOnTrunk is the life of a further connection on a trunk: as inbound, but
// that who calls is known.
func (p *Proxy) inboundOnTrunk(r *row, t *trunk, random []byte) {
	s := p.meet(p.settings.Load(), t.remote.Addr())
	port := s.inboundPort(t.local.Port())
	r.mu.Lock()
	r.trunk, r.hand, r.helloSeen = t, t.hand, true
	r.sides[0] = t.side
	r.mu.Unlock()
	r.set(func(f *mesh.Connection) {
		f.Source, f.Destination = t.remote, t.local
		f.Service, f.Protocol = port.Service, port.Protocol
		f.LocalIdentity = s.config.Identity
		f.PeerWorkload = s.peers[t.remote.Addr()].Workload
		f.Mode, f.Rule, f.Generation = string(port.Mode), port.Origin, s.config.Generation
		f.Trace = mesh.TraceOf(random, netip.AddrPort{}, netip.AddrPort{})
		t.facts(f)
	})
	if !p.settle(r) {
		_ = t.side.Send([]byte{refusedByte}) // the reset says it too
		return
	}
	app, err := p.dialApp(r, t.local)
	if err != nil {
		_ = t.side.Send([]byte{absentByte})
		p.refuse(r, mesh.StageDial, err)
		return
	}
	if err := t.side.Send([]byte{welcomeByte}); err != nil {
		p.refuse(r, mesh.StageHandshake, err)
		return
	}
	p.carry(r, t.side, app)
}
