package proxy

import (
	"context"
	"crypto/rand"
	"net/netip"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// ontoTrunk begins a connection on an idle trunk to an endpoint; nil when there
// is none that takes it.
func (p *Proxy) ontoTrunk(ctx context.Context, r *row, u *upstreamTLS, e *mesh.Endpoint) *relay.Side {
	key := trunkKey{netip.AddrPortFrom(e.Addr.Unmap(), e.Port), u.key}
	for {
		t := p.trunks.take(key)
		if t == nil {
			return nil
		}
		if t.good() != nil {
			t.side.Close()
			continue
		}
		random := make([]byte, helloSize-1)
		_, _ = rand.Read(random) // never fails
		if !r.onTrunk(t, random) {
			t.side.Reset()
			return nil
		}
		answer, heard := t.ask(ctx, random)
		switch answer {
		case welcomeByte:
			p.metrics.reused.Inc()
			return t.side
		case refusedByte:
			return t.side // which is about to be reset, as a fresh one would be
		case absentByte:
			p.leave(r.attempt(), mesh.StageDial, errNobodyListens)
		}
		t.side.Reset()
		if !r.begin(e) {
			return nil
		}
		if !heard { // the others would keep the client waiting as long
			p.trunks.shun(key)
			return nil
		}
	}
}

// ask says hello to the server and returns its answer, 0 when the trunk is gone;
// heard is false when neither was known in time.
func (t *trunk) ask(ctx context.Context, random []byte) (answer byte, heard bool) {
	ctx, cancel := context.WithTimeout(ctx, t.p.cfg.HandshakeTimeout)
	defer cancel()
	if t.side.Send(append([]byte{helloByte}, random...)) != nil {
		return 0, true
	}
	select {
	case b := <-t.answer:
		return b, true
	case <-ctx.Done():
		return 0, false
	}
}

// answered is called with what comes on an idle trunk, or in answer to a hello.
func (t *trunk) answered(p []byte, err error) {
	if t.p.trunks.claim(t, nil) { // nobody asked: it is over
		t.side.Close()
		return
	}
	if err != nil || len(p) != 1 {
		p = []byte{0}
	}
	t.hear(p[0])
}

// hear is the answer to who asks, if anybody does. The first one counts: a server's,
// or 0 for a connection that was ended meanwhile.
func (t *trunk) hear(answer byte) {
	select {
	case t.answer <- answer:
	default:
	}
}

// onTrunk notes what carries a connection; false when it was cut meanwhile.
func (r *row) onTrunk(t *trunk, random []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		return false
	}
	r.revision.Add(1)
	r.trunk, r.hand, r.helloSeen = t, t.hand, true
	r.sides[1] = t.side // whatever comes of it, it ends with the row
	f := r.facts.write(r.id)
	f.Local, f.Upstream = t.local, t.remote
	f.Trace = mesh.TraceOf(random, netip.AddrPort{}, netip.AddrPort{})
	t.facts(f)
	return true
}
