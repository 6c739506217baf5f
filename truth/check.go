package truth

import (
	"fmt"
	"slices"
	"time"

	"hasp/mesh"
	"hasp/policy"
	"hasp/policy/judge"
	"hasp/world"
)

// Differs is the verdict of a Checked whose newest connection was not what the
// configuration says.
const Differs = "DIFFERS"

// Check is what facts say of a client (its Deployment, if it has one) and a port
// of a service, or of a subset of it, beside what the configuration says
// (policy.Check).
func Check(w *world.World, f *Facts, from *mesh.Workload, svc *mesh.Service, port uint16, subset string) Checked {
	c := checker{scene: sceneOf(w, f), from: from, svc: svc, port: port}
	c.client = policy.ClientTLS(w, from, from.Namespace, svc, port, subset)
	c.findServers(subset)
	out := Checked{Verdict: policy.Check(w, from, svc, port, subset).Status}
	out.Behind = c.behind()
	out.Acked = len(out.Behind) == 0
	c.findEdges()
	out.Seen = c.seen()
	if h := c.headline(); h != "" {
		out.Verdict, out.Headline = Differs, h
	}
	return out
}

type checker struct {
	*scene
	from    *mesh.Workload
	svc     *mesh.Service
	port    uint16
	client  policy.Client
	servers map[string]uint16 // workloads, and their port
	out, in []*mesh.Edge      // of the client's proxies, of the servers'
}

// findServers are the workloads behind the port, of the subset.
func (c *checker) findServers(subset string) {
	var labels map[string]string
	for _, s := range policy.Subsets(c.w, c.from, c.from.Namespace, c.svc) {
		if s.Name == subset {
			labels = s.Labels
		}
	}
	c.servers = map[string]uint16{}
	for _, e := range c.svc.Endpoints {
		wl := c.w.Workload(e.Workload)
		if e.ServicePort != c.port || wl == nil {
			continue
		}
		in := true
		for k, v := range labels {
			in = in && wl.Labels[k] == v
		}
		if in {
			c.servers[e.Workload] = e.Port
		}
	}
}

// clients are the pods that are the client for a person.
func (c *checker) clients() []*mesh.Workload {
	if c.from.Owner == "" {
		return []*mesh.Workload{c.from}
	}
	var out []*mesh.Workload
	for _, wl := range c.w.Workloads {
		if wl.Namespace == c.from.Namespace && wl.Owner == c.from.Owner {
			out = append(out, wl)
		}
	}
	return out
}

// behind are the proxies of both ends that have not said that the newest
// generation is in force.
func (c *checker) behind() []string {
	var out []string
	ask := func(wl *mesh.Workload) {
		if wl == nil || wl.Role == mesh.RoleNone || len(wl.Addresses) == 0 {
			return // without an address it is a manifest's, or not started yet
		}
		if r := c.reporters[wl.Key()]; r == nil || !r.Connected || r.Generation < c.f.Generation {
			out = append(out, wl.Key())
		}
	}
	for _, wl := range c.clients() {
		ask(wl)
	}
	for key := range c.servers {
		ask(c.w.Workload(key))
	}
	return sorted(out)
}

// findEdges are those between pods that are there now.
func (c *checker) findEdges() {
	clients := map[string]bool{}
	for _, wl := range c.clients() {
		clients[wl.Key()] = true
	}
	for i := range c.f.Edges {
		e := &c.f.Edges[i]
		if e.Security == mesh.Unknown || e.Security == mesh.Probed || e.Peer == e.Node {
			continue // a pod that calls itself needs no TLS, whatever is configured
		}
		port, server := c.servers[e.Peer]
		switch {
		case e.Direction == mesh.OutboundDir && clients[e.Node] && server && e.Service == c.svc.Hostname && e.Port == c.port:
			c.out = append(c.out, e)
		case e.Direction == mesh.InboundDir && clients[e.Peer]:
			if port, server = c.servers[e.Node]; server && e.Port == port {
				c.in = append(c.in, e)
			}
		}
	}
}

// newest of edges of connections that were let in.
func newest(list []*mesh.Edge) *mesh.Edge {
	var out *mesh.Edge
	for _, e := range list {
		if e.Allowed && (out == nil || e.Last.After(out.Last)) {
			out = e
		}
	}
	return out
}

func (c *checker) seen() *Seen {
	out, in := newest(c.out), newest(c.in)
	last := out
	if last == nil || in != nil && in.Last.After(last.Last) {
		last = in
	}
	if last == nil {
		return nil
	}
	s := &Seen{Security: last.Security, Last: last.Last, Ends: "both"}
	switch {
	case in == nil:
		s.Ends = "source"
	case out == nil:
		s.Ends = "destination"
	}
	for _, e := range slices.Concat(c.out, c.in) {
		if h := asClient(e); h != nil && h.At.After(s.At) {
			s.Handshake = *h
		}
	}
	return s
}

// headline is what the newest connection was that the configuration says
// otherwise of. One that was made under other rules says nothing about these.
func (c *checker) headline() string {
	var e *mesh.Edge
	for _, k := range []*mesh.Edge{newest(slices.DeleteFunc(slices.Clone(c.out), c.staleOut)), newest(slices.DeleteFunc(slices.Clone(c.in), c.staleIn))} {
		if k != nil && (e == nil || k.Last.After(e.Last)) {
			e = k
		}
	}
	if e == nil {
		return ""
	}
	server := e.Node
	if e.Direction == mesh.OutboundDir {
		server = e.Peer
	}
	want, sure := c.configured(server)
	is := e.Security == mesh.MutualTLS
	if !sure || want == is {
		return ""
	}
	why := ""
	if e.Why != "" {
		why = ": " + e.Why
	}
	at := e.Last.UTC().Format(time.TimeOnly)
	if want {
		return fmt.Sprintf("the configuration says mutual TLS, and the newest connection, at %s, was plaintext%s", at, why)
	}
	return fmt.Sprintf("the configuration says plaintext, and the newest connection, at %s, was mutual TLS%s", at, why)
}

// configured is whether the client shall speak mutual TLS to a workload; it is
// not sure where that is for neither end's proxy to see.
func (c *checker) configured(server string) (mutual, sure bool) {
	wl := c.w.Workload(server)
	switch c.client.Mode {
	case mesh.ClientIstioMutual:
		return true, true
	case mesh.ClientSimple, mesh.ClientMutual:
		return false, false
	}
	return c.client.Auto && wl != nil && policy.TakesMeshTLS(c.w, wl, c.servers[server]), true
}

// staleOut: the client's proxy went by another rule than that of now.
func (c *checker) staleOut(e *mesh.Edge) bool {
	return e.Mode != judge.ClientMode(c.client.TLS) || e.Rule != c.client.Origin
}

// staleIn: the server's proxy did; and where the client's proxy reports, its word
// on what it went by is needed too.
func (c *checker) staleIn(e *mesh.Edge) bool {
	wl := c.w.Workload(e.Node)
	if wl == nil {
		return true
	}
	s := policy.ServerMode(c.w, wl, e.Port)
	if e.Mode != string(s.Mode) || e.Rule != s.Origin {
		return true
	}
	for _, o := range c.out {
		if o.Node == e.Peer && o.Peer == e.Node && c.staleOut(o) && !o.Last.Before(e.Last.Add(-clockError)) {
			return true
		}
	}
	return false
}
