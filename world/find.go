package world

import "hasp/mesh"

// index answers who is behind what without going through everything. It is what
// makes one configuration of a thousand cost less than all that there is.
type index struct {
	workloads map[string]*mesh.Workload          // by key
	hosts     map[string][]*mesh.Service         // by hostname
	selecting map[*mesh.Workload][]*mesh.Service // whose selector picks it
	selected  map[*mesh.Service][]*mesh.Workload // that its selector picks
	leading   map[string][]*mesh.Service         // by a workload's key
}

// Index makes the lookups below quick. Whoever builds a World calls it last;
// without it they give the same answers.
func (w *World) Index() {
	x := &index{workloads: map[string]*mesh.Workload{}, hosts: map[string][]*mesh.Service{},
		selecting: map[*mesh.Workload][]*mesh.Service{}, selected: map[*mesh.Service][]*mesh.Workload{}, leading: map[string][]*mesh.Service{}}
	in := map[string][]*mesh.Workload{}
	for _, wl := range w.Workloads {
		x.workloads[wl.Key()] = wl
		x.selecting[wl] = nil
		in[wl.Namespace] = append(in[wl.Namespace], wl)
	}
	for _, s := range w.Services {
		x.hosts[s.Hostname] = append(x.hosts[s.Hostname], s)
		x.selected[s] = nil
		for _, wl := range in[s.Namespace] {
			if picks(s, wl) {
				x.selected[s] = append(x.selected[s], wl)
				x.selecting[wl] = append(x.selecting[wl], s)
			}
		}
		for key := range named(s) {
			x.leading[key] = append(x.leading[key], s)
		}
	}
	w.found = x
}

// Service by hostname as seen in a namespace: a service of the client's own
// namespace before one of another with the same hostname. Nil when unknown.
func (w *World) Service(clientNamespace, hostname string) *mesh.Service {
	list := w.Services
	if w.found != nil {
		list = w.found.hosts[hostname]
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
		return w.found.workloads[key]
	}
	for _, wl := range w.Workloads {
		if wl.Key() == key {
			return wl
		}
	}
	return nil
}

// ServicesOf are the services whose selector picks the workload, which need not
// be one of the World's.
func (w *World) ServicesOf(wl *mesh.Workload) []*mesh.Service {
	if w.found != nil {
		if list, known := w.found.selecting[wl]; known {
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
		if list, known := w.found.selected[s]; known {
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
		return w.found.leading[wl.Key()]
	}
	var out []*mesh.Service
	for _, s := range w.Services {
		if named(s)[wl.Key()] {
			out = append(out, s)
		}
	}
	return out
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
