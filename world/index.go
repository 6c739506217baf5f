package world

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"hasp/mesh"
)

// index answers who is behind what without going through everything. It is what
// makes one configuration of a thousand cost less than all that there is. It never
// changes; the next World's shares with it what is the same.
type index struct {
	workloads table[string, *mesh.Workload]       // by key
	at, was   table[netip.Addr, []*mesh.Workload] // who has, or had, an address
	hosts     table[string, []*mesh.Service]      // by hostname
	leading   table[string, []*mesh.Service]      // by a workload's key
	naming    table[string, []*mesh.Service]      // likewise
	areas     map[string]*area                    // by namespace
	gateways  []*mesh.Workload
}

// area is the index of a namespace. The nil one is that of no namespace.
type area struct {
	selecting map[*mesh.Workload][]*mesh.Service // whose selector picks it
	selected  map[*mesh.Service][]*mesh.Workload // that its selector picks
	accounts  map[string]bool                    // that a workload of the mesh has
}

func (a *area) of(wl *mesh.Workload) (list []*mesh.Service, known bool) {
	if a != nil {
		list, known = a.selecting[wl]
	}
	return list, known
}

func (a *area) behind(s *mesh.Service) (list []*mesh.Workload, known bool) {
	if a != nil {
		list, known = a.selected[s]
	}
	return list, known
}

func (a *area) has(account string) bool { return a != nil && a.accounts[account] }

// Index makes the lookups below quick. Whoever builds a World calls it last;
// without it they give the same answers.
func (w *World) Index() { w.IndexAfter(nil) }

// IndexAfter is Index for a World that was made of an indexed one, which may be
// nil: it costs what is different.
func (w *World) IndexAfter(old *World) {
	if old == nil || old.found == nil {
		old = &World{found: &index{}}
	}
	x := *old.found
	dirty := map[string]bool{} // namespaces
	x.follow(old, w, dirty)
	x.followServices(old, w, dirty)
	if len(dirty) > 0 {
		areas := make(map[string]*area, len(x.areas)+1)
		maps.Copy(areas, x.areas)
		for n := range dirty {
			workloads := w.WorkloadsIn(n)
			services := ofNamespace(w.Services, n, func(s *mesh.Service) string { return s.Namespace })
			if len(workloads)+len(services) == 0 {
				delete(areas, n)
			} else {
				areas[n] = newArea(workloads, services)
			}
		}
		x.areas = areas
	}
	w.found = &x
}

// follow the workloads.
func (x *index) follow(old, now *World, dirty map[string]bool) {
	workloads := x.workloads.edit()
	at, was := lists[netip.Addr, mesh.Workload]{x.at.edit()}, lists[netip.Addr, mesh.Workload]{x.was.edit()}
	gateways := x.gateways
	changed := false
	Changes(old.Workloads, now.Workloads, ByName, func(wl *mesh.Workload) {
		changed, dirty[wl.Namespace] = true, true
		workloads.drop(wl.Key())
		each(wl, func(a netip.Addr) { at.take(a, wl) })
		if wl.Role == mesh.RoleGateway {
			gateways = slices.DeleteFunc(slices.Clone(gateways), func(o *mesh.Workload) bool { return o == wl })
		}
	}, func(wl *mesh.Workload) {
		changed, dirty[wl.Namespace] = true, true
		workloads.set(wl.Key(), wl)
		each(wl, func(a netip.Addr) { at.put(a, wl, ByName) })
		if wl.Role == mesh.RoleGateway {
			i, _ := slices.BinarySearchFunc(gateways, wl, ByName)
			gateways = slices.Insert(slices.Clone(gateways), i, wl)
		}
	})
	if changed {
		x.workloads, x.at, x.gateways = workloads.table, at.table, gateways
	}
	over := false
	Changes(old.Ended, now.Ended, ByName, func(wl *mesh.Workload) {
		over = true
		each(wl, func(a netip.Addr) { was.take(a, wl) })
	}, func(wl *mesh.Workload) {
		over = true
		each(wl, func(a netip.Addr) { was.put(a, wl, ByName) })
	})
	if over {
		x.was = was.table
	}
}

// each address of a workload, once.
func each(wl *mesh.Workload, f func(netip.Addr)) {
	for i, a := range wl.Addresses {
		if !slices.ContainsFunc(wl.Addresses[:i], func(o netip.Addr) bool { return o.Unmap() == a.Unmap() }) {
			f(a.Unmap())
		}
	}
}

// followServices likewise.
func (x *index) followServices(old, now *World, dirty map[string]bool) {
	hosts := lists[string, mesh.Service]{x.hosts.edit()}
	lead, name := lists[string, mesh.Service]{x.leading.edit()}, lists[string, mesh.Service]{x.naming.edit()}
	changed := false
	Changes(old.Services, now.Services, ByHostname, func(s *mesh.Service) {
		changed, dirty[s.Namespace] = true, true
		hosts.take(s.Hostname, s)
		for key := range named(s) {
			lead.take(key, s)
		}
		for key := range naming(s) {
			name.take(key, s)
		}
	}, func(s *mesh.Service) {
		changed, dirty[s.Namespace] = true, true
		hosts.put(s.Hostname, s, ByHostname)
		for key := range named(s) {
			lead.put(key, s, ByHostname)
		}
		for key := range naming(s) {
			name.put(key, s, ByHostname)
		}
	})
	if changed {
		x.hosts, x.leading, x.naming = hosts.table, lead.table, name.table
	}
}

// newArea indexes what a namespace has.
func newArea(workloads []*mesh.Workload, services []*mesh.Service) *area {
	x := &area{selecting: make(map[*mesh.Workload][]*mesh.Service, len(workloads)), selected: make(map[*mesh.Service][]*mesh.Workload, len(services)), accounts: map[string]bool{}}
	// One label of each selector narrows down whom it may pick.
	type label struct{ key, value string }
	first := func(s *mesh.Service) label {
		var l label
		for k, v := range s.Selector {
			if l.key == "" || k < l.key {
				l = label{k, v}
			}
		}
		return l
	}
	having := map[label][]*mesh.Workload{}
	for _, s := range services {
		if len(s.Selector) > 0 {
			having[first(s)] = nil
		}
	}
	for _, wl := range workloads {
		x.selecting[wl] = nil
		if wl.Role != mesh.RoleNone {
			x.accounts[accountOf(wl)] = true
		}
		for k, v := range wl.Labels {
			if list, asked := having[label{k, v}]; asked {
				having[label{k, v}] = append(list, wl)
			}
		}
	}
	for _, s := range services {
		x.selected[s] = nil
		if len(s.Selector) == 0 {
			continue
		}
		l := first(s)
		candidates := having[l]
		if l.value == "" {
			candidates = workloads // a label that is not there has that value too
		}
		for _, wl := range candidates {
			if picks(s, wl) {
				x.selected[s] = append(x.selected[s], wl)
				x.selecting[wl] = append(x.selecting[wl], s)
			}
		}
	}
	return x
}

func accountOf(wl *mesh.Workload) string { return cmp.Or(wl.ServiceAccount, "default") }
