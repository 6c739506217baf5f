package truth

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"hasp/mesh"
	"hasp/policy"
	"hasp/policy/judge"
)

// outcome is what becomes of a client's next connection.
type outcome struct {
	ok       bool
	security mesh.Security
	arrives  mesh.Security // as the server's proxy sees it, if otherwise
	why      string        // why it is refused, or why it is what it is
	reason   reason        // for the fix
	rule     mesh.Origin
	cluster  *judge.Cluster // the client's, when it has a proxy
	server   *mesh.Workload
}

// reason is what stands in the way.
type reason int

const (
	none         reason = iota
	unmeshed            // the client has no sidecar
	around              // it has one, and does not use it
	unset               // nothing tells its proxy to speak TLS
	disabled            // a rule tells it to speak plaintext
	ownTLS              // it speaks TLS of its own settings
	needless            // it speaks mesh TLS to who takes none
	wrongName           // the server is somebody else than the client wants
	unauthorized        // an AuthorizationPolicy has something against it
	unclaimed           // REGISTRY_ONLY, and no service claims the address
	gone                // the service is no more
)

func refused(r reason, rule mesh.Origin, format string, args ...any) outcome {
	return outcome{reason: r, rule: rule, why: fmt.Sprintf(format, args...)}
}

// next is the next connection of a relation's client in a World.
func (q *question) next(l *lens, t *relation) outcome {
	client, server := l.find(t.from), l.find(t.to)
	o := q.speech(l, t, client, server)
	o.server = server
	if !o.ok || server == nil || o.security == inside {
		return o
	}
	x := l.proxy(server.Key())
	if x == nil || server.Role == mesh.RoleGateway {
		return o // nobody there asks
	}
	f := mesh.Connection{Direction: mesh.InboundDir, Security: cmp.Or(o.arrives, o.security)}
	source := t.source
	if client != nil && !source.IsValid() {
		source = address(client, address(server, netip.Addr{}))
	}
	f.Source = netip.AddrPortFrom(source, 0)
	f.Destination = netip.AddrPortFrom(address(server, source), t.port)
	if f.Security == mesh.MutualTLS {
		if f.PeerIdentity = t.from.Identity; client != nil && client.Role != mesh.RoleNone {
			f.PeerIdentity = client.Identity(l.w.Mesh.TrustDomain)
		} else if t.in != nil {
			f.PeerIdentity = t.in.identity
		}
	}
	v := x.Judge(&f)
	if v.Allow {
		return o
	}
	o.ok, o.why = false, v.Why
	if v.Rule.Kind == "AuthorizationPolicy" {
		o.reason, o.rule = unauthorized, v.Rule
	}
	return o
}

// inside is a workload that calls itself: it never leaves its proxy.
const inside mesh.Security = "inside"

// speech is what the client says, and refused when it does not get to say it.
func (q *question) speech(l *lens, t *relation, client, server *mesh.Workload) outcome {
	var x *judge.Index
	if client != nil {
		x = l.proxy(client.Key())
	}
	switch {
	case t.around:
		return outcome{ok: true, security: t.spoken(), reason: around,
			why: t.from.String() + " has a sidecar that this traffic does not go through"}
	case x == nil:
		return q.stranger(l, t, server)
	}
	c, found := clusterFor(l, x, t, client, server)
	switch {
	case !found:
		return refused(gone, mesh.Origin{}, "there is no service %s on port %d any more", t.service(), t.servicePort(l, client, server))
	case c == nil && !x.Config.Outbound.AllowAny:
		return refused(unclaimed, mesh.Origin{}, "no service claims %s:%d and the outbound traffic policy is REGISTRY_ONLY", t.to, t.port)
	case c == nil:
		return outcome{ok: true, security: t.openSecurity(), reason: unset, why: fmt.Sprintf("no service claims the address that %s calls", t.from)}
	}
	o := q.toCluster(l, t, c, client, server)
	o.cluster = c
	return o
}

// stranger is a client without a proxy: it goes on as it was.
func (q *question) stranger(l *lens, t *relation, server *mesh.Workload) outcome {
	o := outcome{ok: true, security: t.openSecurity(), reason: unmeshed, why: t.from.String() + " has no sidecar"}
	if t.in != nil && t.in.security == mesh.MutualTLS {
		o.security, o.reason = mesh.MutualTLS, needless
		if s, ok := serverMode(l, server, t.port); ok && s.Mode == mesh.ModeDisable {
			return refused(needless, s.Origin, "%s speaks mutual TLS and %s takes only plaintext", t.from, judge.Demand("DISABLE", s.Origin))
		}
	}
	return o
}

// openSecurity is what a client says that speaks no TLS of the mesh: plaintext,
// or whatever its application was seen to speak, which its proxy takes for
// plaintext.
func (t *relation) openSecurity() mesh.Security {
	own := t.out == nil && !t.from.Meshed || t.out != nil && t.out.security == mesh.Plaintext
	if own && t.in != nil && (t.in.security == mesh.PassedTLS || t.in.security == mesh.SimpleTLS) {
		return t.in.security
	}
	return mesh.Plaintext
}

// toCluster is what a client's proxy says to a server behind a cluster, as the
// proxies themselves decide it.
func (q *question) toCluster(l *lens, t *relation, c *judge.Cluster, client, server *mesh.Workload) outcome {
	e, ok := endpointFor(l, c, t, server)
	if !ok {
		return refused(gone, mesh.Origin{}, "%s has no endpoint any more", c.Hostname)
	}
	if client != nil && e.Workload == client.Key() {
		return outcome{ok: true, security: inside, why: "the workload calls itself"}
	}
	rule := c.TLS.Origin
	switch c.TLS.Mode {
	case mesh.ClientIstioMutual:
		return q.meshTLS(l, t, c, e, server)
	case mesh.ClientSimple, mesh.ClientMutual:
		return q.fileTLS(t, c, server)
	case mesh.ClientDisable:
		return outcome{ok: true, security: t.openSecurity(), reason: disabled, rule: rule, why: fmt.Sprintf("%s speaks plaintext, %s", t.from, judge.Demand("DISABLE", rule))}
	}
	switch {
	case !c.TLS.Auto:
		return outcome{ok: true, security: t.openSecurity(), reason: unset, rule: rule, why: fmt.Sprintf("%s speaks plaintext: no rule asks for TLS and auto mTLS does not apply", t.from)}
	case !e.Sidecar:
		return outcome{ok: true, security: t.openSecurity(), reason: unset, rule: rule, why: fmt.Sprintf("%s speaks plaintext by auto mTLS: %s takes no mutual TLS", t.from, t.to)}
	}
	return q.meshTLS(l, t, c, e, server)
}

// meshTLS is mutual TLS with mesh certificates: whether the server takes it and
// is who the client wants.
func (q *question) meshTLS(l *lens, t *relation, c *judge.Cluster, e mesh.Endpoint, server *mesh.Workload) outcome {
	speaks := fmt.Sprintf("%s speaks mutual TLS, %s", t.from, judge.Demand(word(c.TLS), c.TLS.Origin))
	switch {
	case server == nil && !e.Sidecar:
		return refused(needless, c.TLS.Origin, "%s, and %s is outside the mesh and has no mesh certificate", speaks, t.to)
	case server != nil && server.Role == mesh.RoleNone:
		return refused(needless, c.TLS.Origin, "%s, and %s has no sidecar to take it", speaks, t.to)
	case server != nil && server.Role == mesh.RoleGateway:
		return refused(needless, c.TLS.Origin, "%s, and %s is a gateway, which takes what its Gateway objects say", speaks, t.to)
	}
	if s, ok := serverMode(l, server, t.port); ok && s.Mode == mesh.ModeDisable {
		return refused(needless, s.Origin, "%s, and %s takes only plaintext, %s", speaks, t.to, judge.Demand("DISABLE", s.Origin))
	}
	identity := e.Identity
	if server != nil {
		identity = server.Identity(l.w.Mesh.TrustDomain)
	}
	wants := c.TLS.SubjectAltNames
	if len(c.IDs) == 0 {
		wants = []string{e.Identity}
	}
	if !slices.Contains(wants, identity) {
		return refused(wrongName, c.TLS.Origin, "%s to one of %v, and the server is %s", speaks, wants, identity)
	}
	return outcome{ok: true, security: mesh.MutualTLS, reason: none, rule: c.TLS.Origin, why: speaks}
}

func word(t mesh.ClientTLS) string {
	if t.Mode == mesh.ClientUnset {
		return "AUTO"
	}
	return string(t.Mode)
}

// fileTLS is TLS with files of the client's own. Out of the mesh the server may
// take it; within, none does but one whose application was seen to.
func (q *question) fileTLS(t *relation, c *judge.Cluster, server *mesh.Workload) outcome {
	o := outcome{ok: true, security: mesh.SimpleTLS, arrives: mesh.PassedTLS, reason: ownTLS, rule: c.TLS.Origin,
		why: fmt.Sprintf("%s speaks TLS of its own, %s", t.from, judge.Demand(string(c.TLS.Mode), c.TLS.Origin))}
	if c.TLS.Mode == mesh.ClientMutual {
		o.security = mesh.MutualTLS
	}
	seen := t.out != nil && t.out.security == o.security
	switch {
	case server == nil, server.Role == mesh.RoleGateway, seen && server.Role == mesh.RoleNone, seen && t.in != nil && t.in.security == mesh.PassedTLS:
		return o
	case server.Role == mesh.RoleNone:
		return refused(ownTLS, c.TLS.Origin, "%s, and %s was never seen to take that", o.why, t.to)
	}
	return refused(ownTLS, c.TLS.Origin, "%s, and %s takes plaintext or mutual TLS with mesh certificates, nothing else", o.why, t.to)
}

// serverMode is that of a server with a sidecar.
func serverMode(l *lens, server *mesh.Workload, port uint16) (policy.Server, bool) {
	if server == nil || server.Role != mesh.RoleSidecar {
		return policy.Server{}, false
	}
	x := l.proxy(server.Key())
	if x == nil {
		return policy.Server{}, false
	}
	p := x.InboundPort(port)
	return policy.Server{Mode: p.Mode, Origin: p.Origin}, true
}

// clusterFor is the cluster that a client's proxy takes: nil when it passes the
// connection through, not found when it is for a service that is not there.
func clusterFor(l *lens, x *judge.Index, t *relation, client, server *mesh.Workload) (c *judge.Cluster, found bool) {
	host := t.service()
	if t.out != nil && host == "" { // to an address that no service claimed
		if server == nil {
			return nil, true
		}
		return x.Route(netip.AddrPortFrom(address(server, address(client, netip.Addr{})), t.port)), true
	}
	if t.out != nil && t.out.cluster != "" && client.Role == mesh.RoleGateway {
		c, found = x.Clusters[t.out.cluster]
		return c, found
	}
	port := t.servicePort(l, client, server)
	for _, subset := range []bool{false, true} {
		for _, c := range x.Config.Outbound.Clusters {
			// A gateway has clusters of the subsets that its routes name.
			if c.Hostname == host && c.Port == port && (c.Subset == "" || subset && client.Role == mesh.RoleGateway) {
				return x.Clusters[c.Name], true
			}
		}
	}
	return nil, host == ""
}

// servicePort that the client calls. What only the server's proxy saw is by the
// workload's port.
func (t *relation) servicePort(l *lens, client, server *mesh.Workload) uint16 {
	if t.out != nil {
		return t.out.port
	}
	namespace := ""
	if client != nil {
		namespace = client.Namespace
	}
	if svc := l.w.Service(namespace, t.in.service); svc != nil && server != nil {
		for _, sp := range svc.Ports {
			if n, ok := sp.On(server); ok && n == t.port {
				return sp.Number
			}
		}
	}
	return t.port
}

// endpointFor is the server as the client's proxy has it. A server that is not
// an endpoint now (it is not ready, or another of its Deployment follows it) is
// taken for one of them.
func endpointFor(l *lens, c *judge.Cluster, t *relation, server *mesh.Workload) (mesh.Endpoint, bool) {
	if server == nil {
		for _, e := range c.Endpoints {
			if e.Host == t.to.Address || e.Addr.IsValid() && e.Addr.String() == t.to.Address {
				return e, true
			}
		}
		return mesh.Endpoint{}, c.OriginalDst || len(c.Endpoints) > 0
	}
	for _, e := range c.Endpoints {
		if e.Workload == server.Key() && e.Port == t.port {
			return e, true
		}
	}
	e := mesh.Endpoint{Port: t.port, Workload: server.Key(), Sidecar: policy.TakesMeshTLS(l.w, server, t.port)}
	if server.Role != mesh.RoleNone {
		e.Identity = server.Identity(l.w.Mesh.TrustDomain)
	}
	return e, c.OriginalDst || len(c.Endpoints) > 0
}
