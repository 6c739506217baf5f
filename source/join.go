package source

import (
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"hasp/mesh"
	"hasp/world"
)

// makeServices joins Services with what is behind them, and makes those of
// ServiceEntries, where something changed. Moved says that in some namespace a
// workload did.
func (s *space) makeServices(b *Builder, moved bool) {
	if len(s.servicesChanged) > 0 {
		s.kept = nil
		s.sliced = map[string][]*discoveryv1.EndpointSlice{}
		for _, slice := range s.slices.sorted() {
			if name := serviceOf(slice); name != "" {
				s.sliced[name] = append(s.sliced[name], slice)
			}
		}
	}
	for name := range s.concerned(moved) {
		o := s.object(name)
		if o == nil {
			delete(s.plain, name)
			continue
		}
		p := &plain{object: o, pods: map[string]bool{}}
		for _, slice := range s.sliced[name] {
			p.anywhere = references(slice, p.pods) || p.anywhere
		}
		p.service = s.join(b, o)
		if old := s.plain[name]; old != nil {
			p.service = keepEqual(old.service, p.service)
			p.final = old.final
		}
		s.plain[name] = p
	}
	if s.entriesChanged || s.all || len(s.moved) > 0 && len(s.entries.by) > 0 {
		s.makeEntries(b)
	}
}

func (s *space) object(name string) *corev1.Service {
	if o := s.objects.by[s.name+"/"+name]; o != nil {
		return o
	}
	if s.name == "default" {
		return s.objects.by["/"+name]
	}
	return nil
}

// concerned are the names of the Services that something changed for.
func (s *space) concerned(moved bool) map[string]bool {
	if s.all {
		for _, o := range s.objects.by {
			s.servicesChanged[o.Name] = true
		}
		for name := range s.plain {
			s.servicesChanged[name] = true
		}
		return s.servicesChanged
	}
	if !moved || len(s.moved) == 0 && s.anywhere == 0 {
		return s.servicesChanged
	}
	for name, p := range s.plain {
		if p.anywhere || slices.ContainsFunc(s.moved, func(w *mesh.Workload) bool {
			return selects(p.object.Spec.Selector, w.Labels) || p.pods[w.Name]
		}) {
			s.servicesChanged[name] = true
		}
	}
	return s.servicesChanged
}

// join a Service with what is behind it: the ready workloads (of a headless one all)
// that its selector picks, and what else its EndpointSlices list.
func (s *space) join(b *Builder, o *corev1.Service) *mesh.Service {
	svc := service(o)
	if o.Spec.Type == corev1.ServiceTypeExternalName {
		svc.External, svc.Resolution, svc.Selector = true, "DNS", nil
		for _, p := range svc.Ports {
			svc.Endpoints = append(svc.Endpoints, mesh.Endpoint{ServicePort: p.Number, Host: o.Spec.ExternalName, Port: p.Number})
		}
		return svc
	}
	// Who calls a headless service dials one pod, ready or not (a StatefulSet's
	// members by name, a cached answer of DNS): its endpoints are a directory
	// of who is at an address, not a choice.
	notReadyToo := o.Spec.PublishNotReadyAddresses || svc.Headless
	for _, w := range s.workloads {
		if selects(o.Spec.Selector, w.Labels) && (w.Ready || notReadyToo) {
			svc.Endpoints = append(svc.Endpoints, endpoints(svc, w, b.domain)...)
		}
	}
	for _, slice := range s.sliced[o.Name] {
		svc.Endpoints = append(svc.Endpoints, b.listed(svc, slice, notReadyToo)...)
	}
	svc.Endpoints = ofFamilies(svc.Endpoints, o.Spec.IPFamilies)
	sortEndpoints(svc.Endpoints)
	svc.Endpoints = slices.CompactFunc(svc.Endpoints, samePlace)
	return svc
}

// makeEntries makes the services of the namespace's ServiceEntries again.
func (s *space) makeEntries(b *Builder) {
	type name struct{ object, host string }
	before := map[name]*mesh.Service{}
	for _, svc := range s.ofEntries {
		before[name{svc.Name, svc.Hostname}] = svc
	}
	s.ofEntries, s.problems, s.kept = nil, nil, nil
	for _, e := range s.entries.sorted() {
		_, problems := entryAddresses(e)
		s.problems = append(s.problems, problems...)
		for _, svc := range s.servicesOf(e, b.addresses, b.domain) {
			s.ofEntries = append(s.ofEntries, keepEqual(before[name{svc.Name, svc.Hostname}], svc))
		}
	}
	s.entriesChanged, s.entriesMade = false, true
}

// finish resolves aliases, which may be of services of other namespaces, and reports
// whether the services of this one changed.
func (s *space) finish(b *Builder) bool {
	again := len(s.servicesChanged) > 0 || s.entriesMade || s.all
	if !again && s.aliases == 0 {
		return false
	}
	s.aliases, s.anywhere = 0, 0
	for _, p := range s.plain {
		if p.service.External {
			s.aliases++
		}
		if p.anywhere {
			s.anywhere++
		}
		final := keepEqual(p.final, b.alias(p.service))
		again = again || final != p.final
		p.final = final
	}
	clear(s.servicesChanged)
	s.entriesMade = false
	if !again {
		return false
	}
	out := make([]*mesh.Service, 0, len(s.plain)+len(s.ofEntries))
	for _, o := range s.objects.sorted() {
		out = append(out, s.plain[o.Name].final)
	}
	out = append(out, s.ofEntries...)
	slices.SortStableFunc(out, world.ByHostname)
	if slices.Equal(out, s.services) {
		return false
	}
	s.services = out
	return true
}

// keepEqual is the old one if nothing in the new one differs.
func keepEqual(old, now *mesh.Service) *mesh.Service {
	if old != nil && (old == now || reflect.DeepEqual(old, now)) {
		return old
	}
	return now
}
