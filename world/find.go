package world

import (
	"net/netip"
	"slices"
	"strings"

	"hasp/mesh"
)

// Service by hostname as seen in a namespace: a service of the client's own
// namespace before one of another with the same hostname. Nil when unknown.
func (w *World) Service(clientNamespace, hostname string) *mesh.Service {
	list := w.Services
	if w.found != nil {
		list = w.found.hosts.get(hostname)
	}
	var found *mesh.Service
	for _, s := range list {
		if s.Hostname != hostname {
			continue
		}
		if s.Namespace == clientNamespace {
			return s
		}
		if found == nil {
			found = s
		}
	}
	return found
}

// Workload by NAMESPACE/NAME, or nil.
func (w *World) Workload(key string) *mesh.Workload {
	if w.found != nil {
		return w.found.workloads.get(key)
	}
	for _, wl := range w.Workloads {
		if wl.Key() == key {
			return wl
		}
	}
	return nil
}

// WorkloadsIn are those of a namespace.
func (w *World) WorkloadsIn(namespace string) []*mesh.Workload {
	return ofNamespace(w.Workloads, namespace, func(wl *mesh.Workload) string { return wl.Namespace })
}

// ServicesOf are the services whose selector picks the workload, which need not
// be one of the World's.
func (w *World) ServicesOf(wl *mesh.Workload) []*mesh.Service {
	if w.found != nil {
		if list, known := w.found.areas[wl.Namespace].of(wl); known {
			return list
		}
	}
	var out []*mesh.Service
	for _, s := range w.Services {
		if picks(s, wl) {
			out = append(out, s)
		}
	}
	return out
}

// WorkloadsOf are the workloads that a service's selector picks.
func (w *World) WorkloadsOf(s *mesh.Service) []*mesh.Workload {
	if w.found != nil {
		if list, known := w.found.areas[s.Namespace].behind(s); known {
			return list
		}
	}
	var out []*mesh.Workload
	for _, wl := range w.Workloads {
		if picks(s, wl) {
			out = append(out, wl)
		}
	}
	return out
}

// ServicesLeadingTo are the services without a selector that have the workload
// behind them all the same: ServiceEntries, and Services with endpoints that
// somebody wrote.
func (w *World) ServicesLeadingTo(wl *mesh.Workload) []*mesh.Service {
	if w.found != nil {
		return w.found.leading.get(wl.Key())
	}
	var out []*mesh.Service
	for _, s := range w.Services {
		if named(s)[wl.Key()] {
			out = append(out, s)
		}
	}
	return out
}

// At is the workload at an address, or, when there is none any more, the one that
// was and is over; of several the first. It is nil for one that several were at of
// which none is left, and for a node's address, at which anybody may be.
func (w *World) At(a netip.Addr) (wl *mesh.Workload, node bool) {
	a = a.Unmap()
	var is, was []*mesh.Workload
	if w.found != nil {
		is, was = w.found.at.get(a), w.found.was.get(a)
	} else {
		is, was = having(w.Workloads, a), having(w.Ended, a)
	}
	switch {
	case slices.ContainsFunc(is, func(wl *mesh.Workload) bool { return wl.HostNetwork }):
		return nil, true
	case len(is) > 0:
		return is[0], false
	case len(was) == 1:
		return was[0], false
	}
	return nil, false
}

func having(list []*mesh.Workload, a netip.Addr) []*mesh.Workload {
	var out []*mesh.Workload
	for _, wl := range list {
		for _, o := range wl.Addresses {
			if o.Unmap() == a {
				out = append(out, wl)
			}
		}
	}
	return out
}

// HasAccount reports whether a workload of the mesh runs as the service account.
func (w *World) HasAccount(namespace, account string) bool {
	if w.found != nil {
		return w.found.areas[namespace].has(account)
	}
	return slices.ContainsFunc(w.Workloads, func(wl *mesh.Workload) bool {
		return wl.Namespace == namespace && wl.Role != mesh.RoleNone && accountOf(wl) == account
	})
}

// GatewayWorkloads are those that are gateways, in order.
func (w *World) GatewayWorkloads() []*mesh.Workload {
	if w.found != nil {
		return w.found.gateways
	}
	var out []*mesh.Workload
	for _, wl := range w.Workloads {
		if wl.Role == mesh.RoleGateway {
			out = append(out, wl)
		}
	}
	return out
}

// ServicesNaming are the services whose endpoints name a workload, which need not be
// there, although their selector, if they have one, does not pick it.
func (w *World) ServicesNaming(key string) []*mesh.Service {
	if w.found != nil {
		return w.found.naming.get(key)
	}
	var out []*mesh.Service
	for _, s := range w.Services {
		if naming(s)[key] {
			out = append(out, s)
		}
	}
	return out
}

// naming are the keys of the workloads that the endpoints of a service name and its
// selector does not pick. (An endpoint has the labels of its workload.)
func naming(s *mesh.Service) map[string]bool {
	var out map[string]bool
	for _, e := range s.Endpoints {
		namespace, _, _ := strings.Cut(e.Workload, "/")
		if e.Workload == "" || picks(s, &mesh.Workload{Namespace: namespace, Labels: e.Labels}) {
			continue
		}
		if out == nil {
			out = map[string]bool{}
		}
		out[e.Workload] = true
	}
	return out
}

// Having are the workloads that have an address, in order.
func (w *World) Having(a netip.Addr) []*mesh.Workload {
	if w.found != nil {
		return w.found.at.get(a.Unmap())
	}
	return having(w.Workloads, a.Unmap())
}

// picks reports whether the service's selector picks the workload.
func picks(s *mesh.Service, wl *mesh.Workload) bool {
	if s.Namespace != wl.Namespace || len(s.Selector) == 0 {
		return false
	}
	for k, v := range s.Selector {
		if wl.Labels[k] != v {
			return false
		}
	}
	return true
}

// named are the keys of the workloads that the endpoints of a service without
// selector name.
func named(s *mesh.Service) map[string]bool {
	if len(s.Selector) > 0 {
		return nil
	}
	var out map[string]bool
	for _, e := range s.Endpoints {
		if e.Workload != "" {
			if out == nil {
				out = map[string]bool{}
			}
			out[e.Workload] = true
		}
	}
	return out
}
