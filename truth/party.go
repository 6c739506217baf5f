package truth

import (
	"net/netip"
	"slices"
	"strings"

	"hasp/mesh"
	"hasp/policy"
	"hasp/world"
)

// String is the party as a person calls it: NAME.NAMESPACE of its Deployment, or
// its address.
func (p Party) String() string {
	switch {
	case p.Owner != "" && p.Namespace != "":
		return policy.WorkloadName(&mesh.Workload{Namespace: p.Namespace, Owner: p.Owner})
	case p.Owner != "":
		return p.Owner
	case p.Kind == KindHost:
		return "host " + p.Address
	case p.Process != "":
		return "process " + p.Process
	case p.Address != "":
		return p.Address
	}
	return "unknown addresses"
}

// ID tells parties apart that a person does not take for the same: NAMESPACE/NAME
// of the Deployment, or the address.
func (p Party) ID() string {
	switch {
	case p.Owner != "" && p.Namespace != "":
		return p.Namespace + "/" + p.Owner
	case p.Owner != "":
		return p.Owner
	case p.Address != "":
		return p.Address
	}
	return KindUnknown
}

// is reports whether a person who says name means the party: its pod or
// Deployment as NAMESPACE/NAME, NAME.NAMESPACE or just NAME, or its address.
func (p Party) is(name string) bool {
	if p.Workload == "" && p.Address != "" && p.Address == name {
		return true
	}
	pod := strings.TrimPrefix(p.Workload, p.Namespace+"/")
	for _, n := range []string{pod, p.Owner} {
		if n != "" && (name == n || name == p.Namespace+"/"+n || name == n+"."+p.Namespace) {
			return true
		}
	}
	return false
}

// scene is a World and the facts in it, made ready to be asked who is who.
type scene struct {
	w         *world.World
	f         *Facts
	reporters map[string]*Reporter
	formerly  map[string]*Party
	provers   map[string]bool // see provers
}

func sceneOf(w *world.World, f *Facts) *scene {
	s := &scene{w: w, f: f, reporters: map[string]*Reporter{}, formerly: map[string]*Party{}, provers: provers(f)}
	for i := range f.Proxies {
		s.reporters[f.Proxies[i].Node] = &f.Proxies[i]
	}
	for i := range f.Workloads {
		s.formerly[f.Workloads[i].Workload] = &f.Workloads[i]
	}
	return s
}

// workload is the party that a key names, whether it still is there or not.
func (s *scene) workload(key string) Party {
	if wl := s.w.Workload(key); wl != nil {
		return partyOf(s.w, wl)
	}
	if p := s.formerly[key]; p != nil {
		return *p
	}
	namespace, name, _ := strings.Cut(key, "/")
	p := Party{Kind: KindWorkload, Workload: key, Namespace: namespace, Owner: name}
	if r := s.reporters[key]; r != nil {
		p.Meshed, p.Identity = true, r.Identity
	}
	return p
}

func partyOf(w *world.World, wl *mesh.Workload) Party {
	p := Party{Kind: KindWorkload, Workload: wl.Key(), Namespace: wl.Namespace, Owner: wl.Owner, Meshed: wl.Role != mesh.RoleNone}
	if p.Owner == "" {
		p.Owner = wl.Name
	}
	if wl.Role == mesh.RoleGateway {
		p.Kind = KindGateway
	}
	if p.Meshed {
		p.Identity = wl.Identity(w.Mesh.TrustDomain)
	}
	return p
}

// address is the party at one.
func (s *scene) address(a netip.Addr) Party {
	switch wl, node := s.w.At(a); {
	case !a.IsValid():
		return Party{Kind: KindUnknown}
	case wl != nil:
		p := partyOf(s.w, wl)
		p.Address = a.Unmap().String()
		return p
	case node:
		return Party{Kind: KindHost, Address: a.Unmap().String()}
	case s.f.Processes[a.Unmap()] != "":
		return Party{Kind: KindProcess, Address: a.Unmap().String(), Process: s.f.Processes[a.Unmap()]}
	}
	return Party{Kind: KindOutside, Address: a.Unmap().String()}
}

// called is whom a client means by a service, at an address that is none of a
// workload's: the service itself, which it called in vain, or an address of one
// outside.
func (s *scene) called(client, hostname string, a netip.Addr) Party {
	p := s.address(a)
	namespace, _, _ := strings.Cut(client, "/")
	svc := s.w.Service(namespace, hostname)
	switch {
	case hostname == "" || svc == nil || p.Workload != "":
		return p
	case svc.External:
		p.Owner = svc.Hostname
		return p
	case !slices.Contains(svc.Addresses, a.Unmap()):
		return p
	}
	p.Kind, p.Namespace, p.Owner = KindService, svc.Namespace, svc.Name
	p.Meshed = slices.ContainsFunc(svc.Endpoints, func(e mesh.Endpoint) bool { return e.Sidecar })
	return p
}

// peer is the other end of an edge.
func (s *scene) peer(k *mesh.EdgeKey) Party {
	if k.Peer != "" {
		return s.workload(k.Peer)
	}
	p := s.stranger(k)
	if k.Security == mesh.MutualTLS && p.Workload == "" {
		p.Identity = k.PeerIdentity // it has proved that at least
	}
	return p
}

// stranger is the other end of an edge that names no workload.
func (s *scene) stranger(k *mesh.EdgeKey) Party {
	a := k.PeerNet.Addr()
	switch {
	case !k.PeerNet.IsValid():
		return Party{Kind: KindUnknown}
	case k.PeerNet.IsSingleIP() && k.Direction == mesh.OutboundDir:
		return s.called(k.Node, k.Service, a)
	case k.PeerNet.IsSingleIP():
		return s.address(a)
	}
	return Party{Kind: KindOutside, Address: k.PeerNet.String()}
}

// ends are source and destination of an edge.
func (s *scene) ends(k *mesh.EdgeKey) (from, to Party) {
	if k.Direction == mesh.InboundDir {
		return s.peer(k), s.workload(k.Node)
	}
	return s.workload(k.Node), s.peer(k)
}

// answers reports whether a workload's proxy reports, so that what it does not
// say is not so.
func (s *scene) answers(key string) bool {
	r := s.reporters[key]
	return r != nil && r.Connected
}
