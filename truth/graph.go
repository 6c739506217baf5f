package truth

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"hasp/mesh"
	"hasp/world"
)

// Locks of a graph and its edges.
const (
	LockClosed  = "closed"  // all of it is mutual TLS
	LockPartial = "partial" // some
	LockOpen    = "open"    // none
	LockRefused = "refused" // nobody was let in
)

// GraphOf is who talked to whom in the last window, and who still does. A window
// longer than MaxWindow is all the time that is remembered, and so are the figures
// of facts that were read from JSON: they have no memory of a while ago.
func GraphOf(w *world.World, f *Facts, window time.Duration) Graph {
	if window <= 0 {
		window = MaxWindow
	}
	from := f.At.Add(-window)
	if window > MaxWindow {
		from, window = time.Time{}, f.At.Sub(f.Since)
	}
	g := grapher{scene: sceneOf(w, f), from: from, nodes: map[string]*GraphNode{}, folds: map[string][]netip.Prefix{}, arcs: map[way]*arc{}}
	for i := range f.Edges {
		g.add(i)
	}
	out := Graph{At: f.At, Generation: f.Generation, Window: window}
	maps.DeleteFunc(g.arcs, func(_ way, a *arc) bool { return !a.in.moved() && !a.out.moved() })
	for _, a := range g.arcs {
		for _, p := range a.parties {
			g.node(p)
		}
		out.Edges = append(out.Edges, g.edge(a))
	}
	for _, id := range slices.Sorted(maps.Keys(g.nodes)) {
		n := g.nodes[id]
		n.Workloads, n.Identities = sorted(n.Workloads), sorted(n.Identities)
		out.Nodes = append(out.Nodes, *n)
	}
	slices.SortFunc(out.Edges, func(a, b GraphEdge) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Service, b.Service))
	})
	out.masthead()
	return out
}

// masthead sums the edges up. What was refused is no traffic.
func (g *Graph) masthead() {
	var mutual, plain uint64
	for _, e := range g.Edges {
		mutual, plain = add(mutual, e.MutualTLS), add(plain, e.Plaintext)
	}
	g.MutualTLS = 1
	if add(mutual, plain) > 0 {
		g.MutualTLS = float64(mutual) / (float64(mutual) + float64(plain))
	}
	if len(g.Edges) > 0 {
		g.Lock = lock(mutual, plain, 0)
	}
}

func lock(mutual, plain, refused uint64) string {
	switch {
	case mutual == 0 && plain == 0 && refused > 0:
		return LockRefused
	case plain == 0:
		return LockClosed
	case mutual == 0:
		return LockOpen
	}
	return LockPartial
}

type grapher struct {
	*scene
	from  time.Time
	nodes map[string]*GraphNode
	folds map[string][]netip.Prefix // the networks that a proxy sums up, by node
	arcs  map[way]*arc
}

// add an edge.
func (g *grapher) add(i int) {
	e := &g.f.Edges[i]
	if e.Peer == e.Node || e.Security == mesh.Probed || e.Security == mesh.Unknown && e.Allowed || g.ours(e) {
		return
	}
	if e.Peer == "" && !e.PeerNet.IsSingleIP() {
		g.folds[e.Node] = append(g.folds[e.Node], e.PeerNet)
	}
	from, to := g.ends(&e.EdgeKey)
	a := g.arc(e, from, to)
	half := &a.in
	if e.Direction == mesh.OutboundDir {
		half = &a.out
		a.clientPort = e.Port
	}
	if e.Last.After(half.last) {
		half.last = e.Last
	}
	var h history
	if i < len(g.f.history) {
		h = g.f.history[i]
	}
	now := h.lately(e, g.from)
	if now.Connections == 0 && e.Open == 0 && now.Sent == 0 && now.Received == 0 && now.Requests == 0 {
		return
	}
	half.add(e, now)
	a.service = cmp.Or(a.service, e.Service)
	a.clients[from.Workload], a.servers[to.Workload] = true, true
	a.parties = append(a.parties, from, to)
}

// ours is what hasp tries itself, to see that it is let in or captured: no
// traffic of anybody's, and it would make the masthead say more than is true.
func (s *scene) ours(e *mesh.Edge) bool {
	if e.Direction == mesh.InboundDir {
		return s.knocks(&e.EdgeKey)
	}
	return e.Peer == "" && e.PeerNet.IsSingleIP() && slices.Contains(mesh.Nobodys(), e.PeerNet.Addr().Unmap())
}

func (g *grapher) arc(e *mesh.Edge, from, to Party) *arc {
	port := e.Port
	if e.Direction == mesh.OutboundDir {
		port = g.workloadPort(e, &to)
	}
	k := way{from.ID(), to.ID(), port}
	a := g.arcs[k]
	if a == nil {
		a = &arc{way: k, gateway: to.Kind == KindGateway, clients: map[string]bool{}, servers: map[string]bool{}}
		g.arcs[k] = a
	}
	return a
}

// node of a party, made when there is none yet.
func (g *grapher) node(p Party) {
	id := p.ID()
	n := g.nodes[id]
	if n == nil {
		n = &GraphNode{ID: id, Kind: p.Kind, Namespace: p.Namespace, Name: cmp.Or(p.Owner, p.Process, p.Address, "unknown")}
		g.nodes[id] = n
	}
	if p.Workload != "" {
		n.Kind = p.Kind // it may be there as a service of the name, called in vain
	}
	n.Meshed = n.Meshed || p.Meshed
	if p.Workload != "" {
		n.Workloads = append(n.Workloads, p.Workload)
	}
	if p.Identity != "" {
		n.Identities = append(n.Identities, p.Identity)
	}
}

func sorted(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// edge makes one of what both ends say. The server's figures go before the
// client's: it saw every client, also those without a proxy. Of plaintext the
// higher figure counts.
func (g *grapher) edge(a *arc) GraphEdge {
	says := &a.in
	if !a.in.moved() {
		says = &a.out
	}
	e := GraphEdge{
		From: a.from, To: a.to, Service: a.service, Port: cmp.Or(a.clientPort, a.port), Seen: a.seen(),
		MutualTLS: says.mutual, Plaintext: max(a.in.plain, a.out.plain), Refused: max(a.in.refused, a.out.refused), Open: says.open,
		Protocol: says.newest.Protocol, Requests: max(a.in.sums.Requests, a.out.sums.Requests), Errors: max(a.in.sums.Errors, a.out.sums.Errors),
		Sent: says.sums.Sent, Received: says.sums.Received, Last: says.newest.Last,
	}
	if a.out.last.After(e.Last) {
		e.Last = a.out.last
	}
	if a.differs() {
		e.MutualTLS = 0 // nobody is told of encryption that one end did not see
	}
	e.Lock = lock(e.MutualTLS, e.Plaintext, e.Refused)
	latency := a.in.sums.Latency
	if len(latency) == 0 {
		latency = a.out.sums.Latency
	}
	e.P50, e.P99 = percentile(latency, 50), percentile(latency, 99)
	e.Why = whyOf(a)
	e.Rules = append(slices.Clone(a.in.rules), a.out.rules...)
	slices.SortFunc(e.Rules, compareOrigins)
	e.Rules = slices.Compact(e.Rules)
	e.Handshake = a.newestHandshake()
	e.Disagreement = g.dissent(a, e.Seen)
	return e
}

func compareOrigins(a, b mesh.Origin) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Level, b.Level))
}

// dissent is what the ends say differently of an arc.
func (g *grapher) dissent(a *arc, seen string) string {
	switch {
	case a.differs() && a.in.mutual > 0:
		return "the clients' proxies say plaintext and the servers' mutual TLS"
	case a.differs():
		return "the clients' proxies say mutual TLS and the servers' plaintext"
	case seen == "source" && a.out.mutual+a.out.plain > 0 && !a.gateway:
		return g.silent(a.servers, a.clients, a.out.last, "received")
	case seen == "destination" && a.in.mutual+a.in.plain > 0:
		return g.silent(a.clients, a.servers, a.in.last, "made")
	}
	return ""
}

// silent names a workload that should have reported what the other end did, if
// all of them have proxies that report and were there at the time.
func (g *grapher) silent(nodes, others map[string]bool, last time.Time, did string) string {
	names := slices.Sorted(maps.Keys(nodes))
	for _, n := range names {
		if n == "" || !g.workload(n).Meshed || !g.answers(n) || !last.After(g.reporters[n].Since) || g.folded(n, others) {
			return ""
		}
	}
	if len(names) == 0 || g.f.At.Sub(last) < patience {
		return ""
	}
	return unheard(names[0], did)
}

// folded reports whether a proxy may have summed some of the others up, in a line
// of a network or of all that it had no room for.
func (g *grapher) folded(node string, others map[string]bool) bool {
	for _, net := range g.folds[node] {
		if !net.IsValid() {
			return true
		}
		for o := range others {
			wl := g.w.Workload(o)
			if wl != nil && slices.ContainsFunc(wl.Addresses, net.Contains) {
				return true
			}
		}
	}
	return false
}

// percentile of requests by how long they took: the upper bound of where it
// falls. The slower ones have none, and get the highest.
func percentile(latency []uint64, p uint64) time.Duration {
	var all uint64
	for _, n := range latency {
		all = add(all, n)
	}
	if all == 0 {
		return 0
	}
	rank := all/100*p + (all%100*p+99)/100 // p % of all, rounded up, without overflow
	var have uint64
	for i, n := range latency {
		if have = add(have, n); have >= rank {
			return mesh.LatencyBounds[min(i, len(mesh.LatencyBounds)-1)]
		}
	}
	return mesh.LatencyBounds[len(mesh.LatencyBounds)-1]
}
