package compile

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	security "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/api"
	"hasp/mesh"
	"hasp/world"
)

// Changes are what one World says to proxies on demand and the one before it did
// not. They may name too much, never too little.
type Changes struct {
	// All: policies or settings changed, so anything may have.
	All      bool
	Services map[netip.AddrPort]bool // where a service changed, came or went
	Peers    map[netip.Addr]bool
	// Workloads are those whose own part may have changed, NAMESPACE/NAME.
	Workloads map[string]bool

	hosts map[hostKey]bool // whose clusters may have changed
}

// Touch reports whether a proxy that asked for d has to be told of the changes.
func (c *Changes) Touch(node string, d mesh.Demand) bool {
	return c.All || c.Workloads[node] || overlap(c.Services, d.Services) || overlap(c.Peers, d.Peers)
}

func overlap[K comparable](a, b map[K]bool) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	for k := range a {
		if b[k] {
			return true
		}
	}
	return false
}

// Next is the compiler of the World that comes after the one of c, and what
// changed. What did not is not computed again.
func (c *Compiler) Next(w *world.World) (*Compiler, *Changes) {
	next := New(w)
	if !sameForAll(c.w, w) {
		return next, &Changes{All: true}
	}
	d := newDifference(c.w, w)
	if d.All {
		return next, &Changes{All: true}
	}
	c.mu.Lock()
	next.parts = c.parts.next(&d.Changes)
	c.mu.Unlock()
	if !d.moved {
		next.places = c.places // positions are what they were
	}
	changes := d.Changes // alone: it outlives the Worlds
	return next, &changes
}

// sameForAll: nothing differs that may decide about any service or workload.
func sameForAll(a, b *world.World) bool {
	return (a.Mesh == b.Mesh || reflect.DeepEqual(a.Mesh, b.Mesh)) &&
		sameList(a.MeshPolicies, b.MeshPolicies) && sameList(a.DestinationRules, b.DestinationRules)
}

func sameList[T any](a, b []*T) bool {
	return slices.EqualFunc(a, b, func(x, y *T) bool { return x == y || reflect.DeepEqual(x, y) })
}

// difference gathers the changes between two Worlds.
type difference struct {
	Changes
	old, now *world.World
	// moved: services' positions in the World's slice, or what is at which address, are
	// no longer what they were.
	moved bool
}

func newDifference(old, now *world.World) *difference {
	d := &difference{old: old, now: now, Changes: Changes{
		Services: map[netip.AddrPort]bool{}, Peers: map[netip.Addr]bool{}, Workloads: map[string]bool{}, hosts: map[hostKey]bool{},
	}}
	walk(old.Workloads, now.Workloads, func(a, b *mesh.Workload) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	}, d.workload)
	namespaces := map[string]bool{}
	d.policies(namespaces)
	walk(old.Services, now.Services, func(a, b *mesh.Service) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Hostname, b.Hostname), strings.Compare(a.Name, b.Name))
	}, func(a, b *mesh.Service) { d.service(a, b, namespaces) })
	d.follow(namespaces)
	return d
}

// walk calls differ for every pair of two sorted lists that is not equal, with nil
// for what one of them lacks.
func walk[T any](old, now []*T, order func(a, b *T) int, differ func(a, b *T)) {
	for len(old) > 0 || len(now) > 0 {
		if len(old) > 0 && len(now) > 0 && old[0] == now[0] {
			old, now = old[1:], now[1:] // most are, when one World was made of the other
			continue
		}
		var a, b *T
		switch {
		case len(now) == 0:
			a = old[0]
		case len(old) == 0:
			b = now[0]
		default:
			switch o := order(old[0], now[0]); {
			case o < 0:
				a = old[0]
			case o > 0:
				b = now[0]
			default:
				a, b = old[0], now[0]
			}
		}
		if a != nil {
			old = old[1:]
		}
		if b != nil {
			now = now[1:]
		}
		if a != b && (a == nil || b == nil || !reflect.DeepEqual(a, b)) {
			differ(a, b)
		}
	}
}

// present are those that are there, of what was and what is.
func present[T any](both ...*T) []*T {
	return slices.DeleteFunc(both, func(x *T) bool { return x == nil })
}

// policies that changed concern the workloads that they select, which are of their own
// namespace unless that is the root namespace. A Policy also selects by services,
// which are noted as changed in namespaces.
func (d *difference) policies(namespaces map[string]bool) {
	walk(d.old.PeerAuthentications, d.now.PeerAuthentications, byName, func(a, b *security.PeerAuthentication) {
		for _, p := range present(a, b) {
			d.selected(p.Namespace, p.Spec.GetSelector().GetMatchLabels())
		}
	})
	walk(d.old.AuthorizationPolicies, d.now.AuthorizationPolicies, byName, func(a, b *security.AuthorizationPolicy) {
		for _, p := range present(a, b) {
			d.selected(p.Namespace, p.Spec.GetSelector().GetMatchLabels())
		}
	})
	walk(d.old.Policies, d.now.Policies, byName, func(a, b *api.Policy) {
		for _, p := range present(a, b) {
			d.selected(p.Namespace, nil)
			namespaces[p.Namespace] = true
		}
	})
}

// byName is the order of policies.
func byName[T any, P interface {
	*T
	metav1.Object
}](a, b *T) int {
	x, y := P(a), P(b)
	return cmp.Or(strings.Compare(x.GetNamespace(), y.GetNamespace()), strings.Compare(x.GetName(), y.GetName()))
}

// selected workloads, of which no labels select all.
func (d *difference) selected(namespace string, labels map[string]string) {
	if namespace == d.now.Mesh.RootNamespace {
		d.All = true
		return
	}
	for _, w := range []*world.World{d.old, d.now} {
		for _, wl := range w.WorkloadsIn(namespace) {
			if hasLabels(wl.Labels, labels) {
				d.Workloads[wl.Key()] = true
			}
		}
	}
}

func (d *difference) workload(a, b *mesh.Workload) {
	for _, x := range present(a, b) {
		d.Workloads[x.Key()] = true
		for _, addr := range x.Addresses {
			d.Peers[addr.Unmap()] = true
		}
	}
}

// service notes a service that differs. Where it is more than its endpoints, the
// modes of its workloads may follow it, and so may what other services of the
// namespace are taken to lead to. One without a selector has its workloads from its
// endpoints.
func (d *difference) service(a, b *mesh.Service, namespaces map[string]bool) {
	itself := a == nil || b == nil
	if !itself {
		x, y := *a, *b
		x.Endpoints, y.Endpoints = nil, nil
		itself = !reflect.DeepEqual(x, y)
	}
	d.moved = d.moved || itself || a.Headless
	for _, s := range present(a, b) {
		d.All = d.All || anywhere(s)
		d.touch(s)
		if itself {
			namespaces[s.Namespace] = true
			for _, w := range []*world.World{d.old, d.now} {
				for _, wl := range w.WorkloadsOf(s) {
					d.Workloads[wl.Key()] = true
				}
			}
		}
		if itself || len(s.Selector) == 0 {
			for _, e := range s.Endpoints {
				if e.Workload != "" {
					d.Workloads[e.Workload] = true
				}
			}
		}
	}
}

// touch services: what leads to them has to be told anew.
func (d *difference) touch(services ...*mesh.Service) {
	for _, s := range services {
		d.hosts[keyOf(s)] = true
		maps.Copy(d.Services, placesOf(s))
	}
}

// follow finds the services that did not change themselves, but with what is behind
// or beside them.
func (d *difference) follow(namespaces map[string]bool) {
	if len(d.Workloads) == 0 && len(namespaces) == 0 {
		return
	}
	hosts := map[string]bool{}
	for h := range d.hosts {
		if namespaces[h.namespace] {
			hosts[h.hostname] = true
		}
	}
	for _, w := range []*world.World{d.old, d.now} {
		for key := range d.Workloads {
			d.touch(w.ServicesNaming(key)...)
			if wl := w.Workload(key); wl != nil {
				d.touch(w.ServicesOf(wl)...)
			}
		}
		if len(namespaces) == 0 {
			continue
		}
		for _, s := range w.Services {
			if namespaces[s.Namespace] || hosts[s.Hostname] {
				d.touch(s)
			}
		}
	}
}
