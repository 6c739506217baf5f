package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"hasp/mesh"
	"hasp/policy"
	"hasp/world"
)

// Part is a piece of what proxies on demand are told that is the same for many of
// them: one cluster, one listener or one peer.
type Part struct {
	Cluster  *mesh.Cluster
	Listener *mesh.Listener
	Peer     *mesh.Peer

	once sync.Once
	kept any
	err  error
}

// Keep is what make makes of the part, which is asked the first time only: so a
// part is encoded once for all proxies that have it.
func (p *Part) Keep(make func(*Part) (any, error)) (any, error) {
	p.once.Do(func() { p.kept, p.err = make(p) })
	return p.kept, p.err
}

// maxParts bounds those that are kept for the next who asks.
const maxParts = 100_000

// partKey names a part of one World.
type partKey struct {
	place    netip.AddrPort // of a listener; of a peer, with port 0
	audience string         // of a cluster, "" when it is the same for all
	host     hostKey
	port     uint16
}

func peerKey(a netip.Addr) partKey { return partKey{place: netip.AddrPortFrom(a, 0)} }

// hostKey names a service. A Service and a ServiceEntry may have all of their
// names in common; only the latter has a resolution, if it has addresses.
type hostKey struct{ namespace, name, hostname, resolution string }

func keyOf(s *mesh.Service) hostKey { return hostKey{s.Namespace, s.Name, s.Hostname, s.Resolution} }

// OnDemand is [Compiler.For] for a sidecar that is told only what it asked for. How
// it treats callers is whole, whatever it asked for; so are the listeners that
// match any address. The parts are the rest, in no order.
func (c *Compiler) OnDemand(wl *mesh.Workload, d mesh.Demand) (*mesh.ProxyConfig, []*Part) {
	cfg := c.own(wl)
	cfg.OnDemand = true
	cfg.Inbound = inbound(c.w, wl)
	cfg.Outbound.AllowAny = c.w.Mesh.OutboundAllowAny
	at, audience := c.places(), c.audience(wl)
	o := order{c: c, wl: wl, audience: audience, seen: map[*Part]bool{}}
	o.anywhere(at)
	for a := range d.Services {
		if s, port := at.find(c.w, a, wl.Namespace); s != nil {
			o.listener(a, s, port)
		}
	}
	for a := range d.Peers {
		if wl := peerAt(c.w, a); wl != nil {
			o.add(peerKey(a), func() *Part {
				p := peer(c.w, wl, a)
				return &Part{Peer: &p}
			})
		}
	}
	return cfg, o.parts
}

// order is what one proxy asked for.
type order struct {
	c        *Compiler
	wl       *mesh.Workload
	audience string
	parts    []*Part
	seen     map[*Part]bool
}

// add a part, made if nobody had it before.
func (o *order) add(key partKey, make func() *Part) *Part {
	o.c.mu.Lock()
	p := o.c.parts.get(key)
	o.c.mu.Unlock()
	if p == nil {
		p = make()
		o.c.mu.Lock()
		if first := o.c.parts.get(key); first != nil {
			p = first
		} else {
			o.c.parts.add(key, p)
		}
		o.c.mu.Unlock()
	}
	if !o.seen[p] {
		o.seen[p] = true
		o.parts = append(o.parts, p)
	}
	return p
}

// cluster is one port of a service as the audience sees it. Its endpoints bear the
// names of their workloads, which a proxy has from its peers otherwise.
func (o *order) cluster(s *mesh.Service, port uint16) *mesh.Cluster {
	w, key := o.c.w, partKey{host: keyOf(s), port: port}
	if policy.Ruled(w, s) {
		key.audience = o.audience
	}
	return o.add(key, func() *Part {
		cl := cluster(w, o.wl, s, port, "")
		for i := range cl.Endpoints {
			if wl := w.Workload(cl.Endpoints[i].Workload); wl != nil {
				cl.Endpoints[i].Labels = wl.Names().Labels()
			}
		}
		return &Part{Cluster: &cl}
	}).Cluster
}

// anywhere adds the listeners that match their port at any address.
func (o *order) anywhere(at *places) {
	taken := map[uint16]bool{}
	for _, own := range []bool{true, false} {
		for _, i := range at.anywhere {
			s := o.c.w.Services[i]
			for _, sp := range s.Ports {
				if (s.Namespace == o.wl.Namespace) != own || taken[sp.Number] || !at.visible(o.c.w, s, sp.Number, o.wl.Namespace) {
					continue
				}
				taken[sp.Number] = true
				o.listener(netip.AddrPortFrom(netip.Addr{}, sp.Number), s, sp.Number)
			}
		}
	}
}

// listener adds one that leads to a service, with its cluster.
func (o *order) listener(at netip.AddrPort, s *mesh.Service, port uint16) {
	cluster := o.cluster(s, port)
	o.add(partKey{place: at, host: keyOf(s), port: port}, func() *Part {
		return &Part{Listener: &mesh.Listener{Addr: at.Addr(), Port: at.Port(), Cluster: cluster.Name}}
	})
}

// places say what is where in a World. They hold positions in its slices, so that
// they serve the next World too when that has the same things in the same places.
type places struct {
	services map[netip.AddrPort][]int32 // whose listeners have the address, in order
	anywhere []int32                    // whose listeners match any address
	hosts    map[string][]int32         // of hostnames that several services have
}

func newPlaces(w *world.World) *places {
	p := &places{services: make(map[netip.AddrPort][]int32, len(w.Services)), hosts: map[string][]int32{}}
	all := make(map[string]int32, len(w.Services))
	for i, s := range w.Services {
		n := int32(i)
		if first, ok := all[s.Hostname]; ok {
			if p.hosts[s.Hostname] == nil {
				p.hosts[s.Hostname] = []int32{first}
			}
			p.hosts[s.Hostname] = append(p.hosts[s.Hostname], n)
		} else {
			all[s.Hostname] = n
		}
		if anywhere(s) {
			p.anywhere = append(p.anywhere, n)
		}
		for a := range placesOf(s) {
			p.services[a] = append(p.services[a], n)
		}
	}
	return p
}

// peerAt is the workload that a peer's address is of, the first if there are several.
func peerAt(w *world.World, a netip.Addr) *mesh.Workload {
	for _, wl := range w.Having(a) {
		if !wl.HostNetwork {
			return wl
		}
	}
	return nil
}

// anywhere: the listeners of the service have no address.
func anywhere(s *mesh.Service) bool {
	return !s.Headless && len(s.Addresses) == 0 && s.Resolution == "NONE"
}

// placesOf are the addresses of a service's listeners.
func placesOf(s *mesh.Service) map[netip.AddrPort]bool {
	out := map[netip.AddrPort]bool{}
	for _, p := range s.Ports {
		if s.Headless {
			for _, e := range s.Endpoints {
				if e.ServicePort == p.Number && e.Addr.IsValid() {
					out[netip.AddrPortFrom(e.Addr.Unmap(), e.Port)] = true
				}
			}
			continue
		}
		for _, a := range s.Addresses {
			out[netip.AddrPortFrom(a.Unmap(), p.Number)] = true
		}
	}
	return out
}

// find is the service port at an address, as [outbound] has it for a namespace:
// its own services come first, and of those with one hostname and port the first.
func (p *places) find(w *world.World, a netip.AddrPort, namespace string) (*mesh.Service, uint16) {
	for _, own := range []bool{true, false} {
		for _, i := range p.services[a] {
			s := w.Services[i]
			if (s.Namespace == namespace) != own {
				continue
			}
			for _, sp := range s.Ports {
				if leadsTo(s, sp.Number, a) && p.visible(w, s, sp.Number, namespace) {
					return s, sp.Number
				}
			}
		}
	}
	return nil, 0
}

func leadsTo(s *mesh.Service, port uint16, a netip.AddrPort) bool {
	if !s.Headless {
		return port == a.Port()
	}
	return slices.ContainsFunc(s.Endpoints, func(e mesh.Endpoint) bool {
		return e.ServicePort == port && e.Port == a.Port() && e.Addr.Unmap() == a.Addr()
	})
}

// visible: the namespace sees the service, and no other service comes before it
// under the same hostname and port.
func (p *places) visible(w *world.World, s *mesh.Service, port uint16, namespace string) bool {
	if !policy.Visible(s, namespace) {
		return false
	}
	same := p.hosts[s.Hostname]
	if same == nil {
		return true
	}
	for _, own := range []bool{true, false} {
		for _, i := range same {
			o := w.Services[i]
			if (o.Namespace == namespace) != own || !policy.Visible(o, namespace) {
				continue
			}
			if slices.ContainsFunc(o.Ports, func(sp mesh.ServicePort) bool { return sp.Number == port }) {
				return o == s
			}
		}
	}
	return false
}

// Join is the configuration of which parts were made, in the form of
// [Compiler.For].
func Join(cfg *mesh.ProxyConfig, parts []*Part) (*mesh.ProxyConfig, error) {
	out := *cfg
	for _, p := range parts {
		switch {
		case p.Cluster != nil:
			out.Outbound.Clusters = append(out.Outbound.Clusters, *p.Cluster)
		case p.Listener != nil:
			out.Outbound.Listeners = append(out.Outbound.Listeners, *p.Listener)
		case p.Peer != nil:
			out.Peers = append(out.Peers, *p.Peer)
		default:
			return nil, fmt.Errorf("compile: an empty part")
		}
	}
	sortOutbound(&out.Outbound)
	slices.SortFunc(out.Peers, func(a, b mesh.Peer) int { return a.Addr.Compare(b.Addr) })
	return &out, nil
}
