package truth

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"hasp/mesh"
)

// relation is what is known of one client and one port of one server.
type relation struct {
	from, to Party
	port     uint16     // of the server's workload
	source   netip.Addr // of the client, when it is one
	in, out  *sighting  // the newest, by the server's and by the client's proxy
	lives    []*Connection
	// around says that the client's proxy, which reports, never sees the
	// plaintext that the server's does: it does not go through it.
	around bool
}

// sighting is how a connection was seen at one end.
type sighting struct {
	security mesh.Security
	last     time.Time
	identity string // of the peer
	service  string // hostname, "" for an address that no service claims
	port     uint16 // of the service
	cluster  string // of a live connection
}

func (t *relation) last() time.Time {
	var last time.Time
	for _, s := range []*sighting{t.in, t.out} {
		if s != nil && s.last.After(last) {
			last = s.last
		}
	}
	return last
}

// service that is called, as the client has it, else the server.
func (t *relation) service() string {
	if t.out != nil {
		return t.out.service
	}
	return t.in.service
}

// spoken is what was seen last.
func (t *relation) spoken() mesh.Security {
	if t.in != nil {
		return t.in.security
	}
	return t.out.security
}

// relationKey tells relations apart.
type relationKey struct {
	from, to string
	port     uint16
	around   bool
}

// relations joins what both ends' ledgers and tables have, in a fixed order.
func (q *question) relations() []*relation {
	t := tally{question: q, relations: map[relationKey]*relation{}, open: map[relationKey]time.Time{}}
	for i := range q.f.Edges {
		t.sees(sightOfEdge(q, &q.f.Edges[i]))
	}
	for i := range q.f.Connections {
		if c := &q.f.Connections[i]; c.End.IsZero() {
			t.sees(sightOf(q, c))
		}
	}
	// First what clients' proxies saw: it says what goes around them.
	slices.SortStableFunc(t.seen, func(a, b sight) int { return cmp.Compare(b.dir, a.dir) })
	for _, s := range t.seen {
		t.add(s)
	}
	var out []*relation
	for _, key := range t.order {
		out = append(out, t.relations[key])
	}
	return out
}

// tally gathers relations.
type tally struct {
	*question
	seen      []sight
	relations map[relationKey]*relation
	order     []relationKey
	// open is when clients' proxies last had them carry something else than
	// mutual TLS, or try to.
	open map[relationKey]time.Time
}

// lateness is by how much the times of one connection may differ at its ends.
const lateness = 5 * time.Second

// sight is a line of a ledger or a row of a table.
type sight struct {
	sighting
	dir      mesh.Direction
	from, to Party
	source   netip.Addr
	at       uint16 // port of the server's workload
	row      *Connection
	verifies bool // hasp verify does
}

func (t *tally) sees(s sight) {
	unclear := s.dir == mesh.OutboundDir && s.service == "" && s.port == 0 // of a ledger without room
	// No policy stops a kubelet, and hasp verify wants to be stopped.
	if s.security != mesh.Probed && !unclear && !s.verifies {
		t.seen = append(t.seen, s)
	}
}

func (t *tally) add(s sight) {
	key := relationKey{from: partyKey(s.from), to: partyKey(s.to), port: s.at}
	open := s.security != mesh.MutualTLS
	if s.dir == mesh.OutboundDir && open && s.last.After(t.open[key]) {
		t.open[key] = s.last
	}
	if s.security == mesh.Unknown {
		return // it ended before it was anything
	}
	if s.dir == mesh.InboundDir && open && s.from.Meshed && t.answers(s.from.Workload) {
		key.around = s.last.After(t.open[key].Add(lateness))
	}
	at := t.relations[key]
	if at == nil {
		at = &relation{from: s.from, to: s.to, port: s.at, source: s.source, around: key.around}
		t.relations[key] = at
		t.order = append(t.order, key)
	}
	newest := &at.out
	if s.dir == mesh.InboundDir {
		newest = &at.in
	}
	if *newest == nil || s.last.After((*newest).last) {
		*newest = &s.sighting
	}
	if s.row != nil {
		at.lives = append(at.lives, s.row)
	}
}

func partyKey(p Party) string {
	if p.Workload != "" {
		return p.Workload
	}
	return p.ID()
}

func sightOfEdge(q *question, e *mesh.Edge) sight {
	s := sight{dir: e.Direction, at: e.Port, verifies: q.knocks(&e.EdgeKey),
		sighting: sighting{security: e.Security, last: e.Last, identity: e.PeerIdentity, service: e.Service, port: e.Port}}
	s.from, s.to = q.scene.ends(&e.EdgeKey)
	if e.PeerNet.IsSingleIP() && e.Direction == mesh.InboundDir {
		s.source = e.PeerNet.Addr()
	}
	if e.Direction == mesh.OutboundDir && e.Service != "" {
		s.at = q.behind(s.from.Namespace, e.Service, e.Port, s.to.Workload)
	}
	return s
}

func sightOf(q *question, c *Connection) sight {
	s := sight{dir: c.Direction, row: c, verifies: c.Direction == mesh.InboundDir && ofVerifier(c.PeerIdentity),
		sighting: sighting{security: c.Security, last: c.LastSeen, identity: c.PeerIdentity, service: c.Service, cluster: c.Cluster}}
	own := q.scene.workload(c.Node)
	if c.Direction == mesh.InboundDir {
		s.from, s.to, s.source, s.at = q.end(c.PeerWorkload, c.Source), own, c.Source.Addr(), c.Destination.Port()
		return s
	}
	s.from, s.to, s.at = own, q.end(c.PeerWorkload, c.Upstream), c.Upstream.Port()
	if s.port = c.Destination.Port(); c.Service != "" {
		s.port = clusterPort(c.Cluster)
	}
	return s
}

// end is the party at the other end of a connection.
func (q *question) end(workload string, a netip.AddrPort) Party {
	if workload != "" {
		return q.scene.workload(workload)
	}
	return q.address(a.Addr())
}

// behind is the port of a workload behind a service's port.
func (q *question) behind(namespace, host string, port uint16, workload string) uint16 {
	svc, wl := q.w.Service(namespace, host), q.w.Workload(workload)
	if svc == nil {
		return port
	}
	if wl == nil {
		if all := q.w.WorkloadsOf(svc); len(all) > 0 {
			wl = all[0]
		}
	}
	for _, sp := range svc.Ports {
		if sp.Number != port || wl == nil {
			continue
		}
		if n, ok := sp.On(wl); ok && len(svc.Selector) > 0 {
			return n
		}
	}
	for _, e := range svc.Endpoints {
		if e.ServicePort == port && e.Workload == workload {
			return e.Port
		}
	}
	return port
}

// clusterPort is the service's port in a cluster's name, outbound|PORT|...
func clusterPort(name string) uint16 {
	parts := strings.SplitN(name, "|", 4)
	if len(parts) != 4 {
		return 0
	}
	n, _ := strconv.ParseUint(parts[1], 10, 16)
	return uint16(n)
}
