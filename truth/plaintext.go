package truth

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"hasp/mesh"
	"hasp/world"
)

// PlaintextOf is the plaintext ledger: who reached a server that has a proxy
// without mutual TLS, as the server's proxy says or, where it saw nothing, the
// client's.
func PlaintextOf(w *world.World, f *Facts) PlainLedger {
	s := sceneOf(w, f)
	out := PlainLedger{At: f.At, Since: f.Since, Forgotten: f.Forgotten, Blind: s.blind()}
	t := newTalks(s)
	servers := map[string]*Called{}
	for i := range t.all {
		to := t.all[i].to
		if to.Workload == "" || to.Kind == KindGateway {
			continue
		}
		if servers[to.ID()] == nil {
			servers[to.ID()] = &Called{Namespace: to.Namespace, Name: to.Owner}
		}
		c := servers[to.ID()]
		c.Meshed = c.Meshed || to.Meshed
	}
	for _, g := range t.plain() {
		p := t.line(g)
		if p.Hinders() {
			servers[p.Destination.ID()].Plain++
		}
		out.Lines = append(out.Lines, p)
	}
	slices.SortFunc(out.Lines, func(a, b Plain) int {
		return cmp.Or(cmp.Compare(a.Destination.ID(), b.Destination.ID()), b.Last.Compare(a.Last),
			cmp.Compare(a.Source.ID(), b.Source.ID()), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Security, b.Security))
	})
	for _, id := range slices.Sorted(maps.Keys(servers)) {
		out.Servers = append(out.Servers, *servers[id])
	}
	return out
}

// blind are the meshed workloads that nobody reports for.
func (s *scene) blind() []string {
	var out []string
	for _, wl := range s.w.Workloads {
		if wl.Role != mesh.RoleNone && len(wl.Addresses) > 0 && !s.answers(wl.Key()) {
			out = append(out, wl.Key())
		}
	}
	return out
}

// talk is an edge with its ends, its port that of the workload where that is
// known.
type talk struct {
	edge     *mesh.Edge
	from, to Party
	port     uint16
}

// way is who talks to whom by which port, the client as its pod or as its
// Deployment.
type way struct {
	from, to string
	port     uint16
}

func (t *talk) byOwner() way { return way{t.from.ID(), t.to.ID(), t.port} }

func (t *talk) byPod() way { return way{cmp.Or(t.from.Workload, t.from.ID()), t.to.ID(), t.port} }

// span is from when to when.
type span struct{ first, last time.Time }

func (s *span) join(e *mesh.Edge) {
	if s.first.IsZero() || e.First.Before(s.first) {
		s.first = e.First
	}
	if e.Last.After(s.last) {
		s.last = e.Last
	}
}

// talks are all edges of connections that were let in.
type talks struct {
	*scene
	all []talk
	// mutual is when mutual TLS was spoken, by pod and by owner of the client.
	mutual map[way]*span
	// present are owners that have a pod, bare those that have one without a proxy.
	present, bare map[string]bool
}

func newTalks(s *scene) *talks {
	t := &talks{scene: s, mutual: map[way]*span{}, present: map[string]bool{}, bare: map[string]bool{}}
	for _, wl := range s.w.Workloads {
		id := partyOf(s.w, wl).ID()
		t.present[id] = true
		if wl.Role == mesh.RoleNone {
			t.bare[id] = true
		}
	}
	for i := range s.f.Edges {
		e := &s.f.Edges[i]
		if !e.Allowed || e.Peer == e.Node || e.Security == mesh.Probed || e.Security == mesh.Unknown {
			continue
		}
		k := talk{edge: e, port: e.Port}
		k.from, k.to = s.ends(&e.EdgeKey)
		if e.Direction == mesh.OutboundDir {
			k.port = s.workloadPort(e, &k.to)
		}
		t.all = append(t.all, k)
		if e.Security != mesh.MutualTLS {
			continue
		}
		for _, w := range []way{k.byOwner(), k.byPod()} {
			if t.mutual[w] == nil {
				t.mutual[w] = &span{}
			}
			t.mutual[w].join(e)
		}
	}
	return t
}

// workloadPort is the port of the workload that a service's port leads to.
func (s *scene) workloadPort(e *mesh.Edge, to *Party) uint16 {
	wl := s.w.Workload(to.Workload)
	svc := s.service(e)
	if svc == nil || wl == nil {
		return e.Port
	}
	for _, ep := range svc.Endpoints {
		if ep.Workload == to.Workload && ep.ServicePort == e.Port {
			return ep.Port
		}
	}
	for _, p := range svc.Ports {
		if n, ok := p.On(wl); ok && p.Number == e.Port {
			return n
		}
	}
	return e.Port
}

// service that an edge is about, or nil.
func (s *scene) service(e *mesh.Edge) *mesh.Service {
	if e.Service == "" {
		return nil
	}
	return s.w.Service(s.workload(e.Node).Namespace, e.Service)
}

// group is the plaintext of one client to one server's port: what the server's
// proxies say, and what the client's do.
type group struct{ in, out []*talk }

// plain are the groups. A client's plaintext counts only where the server has a
// proxy that could have had mutual TLS.
func (t *talks) plain() []group {
	type kind struct {
		way
		security mesh.Security
	}
	groups := map[kind]*group{}
	at := func(k kind) *group {
		if groups[k] == nil {
			groups[k] = &group{}
		}
		return groups[k]
	}
	for i := range t.all {
		k := &t.all[i]
		if k.edge.Direction == mesh.InboundDir && k.to.Kind == KindWorkload && (k.edge.Security == mesh.Plaintext || k.edge.Security == mesh.PassedTLS) {
			g := at(kind{k.byOwner(), k.edge.Security})
			g.in = append(g.in, k)
		}
	}
	for i := range t.all {
		k := &t.all[i]
		if k.edge.Direction != mesh.OutboundDir || k.edge.Security == mesh.MutualTLS || k.to.Kind != KindWorkload || !k.to.Meshed {
			continue
		}
		security := mesh.Plaintext
		if k.edge.Security != mesh.Plaintext || groups[kind{k.byOwner(), mesh.PassedTLS}] != nil {
			security = mesh.PassedTLS // the client's proxy does not look into what it passes on
		}
		if groups[kind{k.byOwner(), mesh.Plaintext}] != nil && k.edge.Security == mesh.Plaintext {
			security = mesh.Plaintext
		}
		g := at(kind{k.byOwner(), security})
		g.out = append(g.out, k)
	}
	var out []group
	for _, k := range slices.SortedFunc(maps.Keys(groups), func(a, b kind) int {
		return cmp.Or(cmp.Compare(a.to, b.to), cmp.Compare(a.from, b.from), cmp.Compare(a.port, b.port), cmp.Compare(a.security, b.security))
	}) {
		out = append(out, *groups[k])
	}
	return out
}

// line of the ledger for a group.
func (t *talks) line(g group) Plain {
	says := g.in
	if len(says) == 0 {
		says = g.out
	}
	newest := says[0]
	var p Plain
	for _, k := range says {
		e := k.edge
		if e.Last.After(newest.edge.Last) {
			newest = k
		}
		if p.First.IsZero() || e.First.Before(p.First) {
			p.First = e.First
		}
		p.Count, p.Open = add(p.Count, e.Connections), add(p.Open, e.Open)
		p.Service = cmp.Or(p.Service, e.Service)
	}
	p.Last, p.Port, p.Security = newest.edge.Last, newest.port, newest.edge.Security
	p.Source, p.Destination = newest.from, newest.to
	c := cause{talks: t, Plain: &p, server: newest}
	for _, k := range g.out {
		if c.client == nil || k.edge.Last.After(c.client.edge.Last) {
			c.client = k
		}
	}
	if len(g.in) == 0 {
		c.server = nil
	}
	p.Why = newest.edge.Why
	if c.client != nil && c.client.edge.Why != "" {
		p.Why = c.client.edge.Why // the client's proxy chose it
	}
	p.MutualSince = t.mutualSince(says)
	p.Fix = c.fix()
	return p
}

// mutualSince is when the clients of these edges went over to mutual TLS, zero
// when STRICT would still cut one of them.
func (t *talks) mutualSince(plain []*talk) time.Time {
	var since time.Time
	for _, k := range plain {
		at, over := t.over(k)
		if !over {
			return time.Time{}
		}
		if at.After(since) {
			since = at
		}
	}
	return since
}

// over reports whether a client speaks nothing but mutual TLS any more, and
// since when: its newest connection must have been that, and a pod that is no
// more stands for those that its Deployment has now.
func (t *talks) over(k *talk) (since time.Time, over bool) {
	w := k.byPod()
	wl := t.w.Workload(k.from.Workload)
	switch {
	case k.edge.Open > 0, wl != nil && wl.Role == mesh.RoleNone:
		return since, false
	case k.from.Workload != "" && wl == nil:
		if t.bare[k.from.ID()] {
			return since, false
		}
		w = k.byOwner()
	}
	m := t.mutual[w]
	if m == nil || !m.last.After(k.edge.Last) {
		return since, false
	}
	if m.first.After(k.edge.Last) {
		return m.first, true
	}
	return k.edge.Last, true
}
