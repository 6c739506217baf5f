package source

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	networking "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"hasp/mesh"
	"hasp/world"
)

// space is one namespace of a [Builder]: its objects, and what was made of them.
type space struct {
	name        string
	pods        list[*corev1.Pod]
	deployments list[*appsv1.Deployment]
	objects     list[*corev1.Service]
	slices      list[*discoveryv1.EndpointSlice]
	entries     list[*networking.ServiceEntry]
	hosts       list[*networking.WorkloadEntry]

	// What changed since the last World, by name. The pod "" is all Deployments.
	podsChanged, servicesChanged map[string]bool
	entriesChanged               bool
	all                          bool // everything is to be made again

	is, was          map[string]*mesh.Workload // by pod: running, ended
	workloads, ended []*mesh.Workload
	named            map[string]*mesh.Workload // of workloads
	addresses        map[netip.Addr]*mesh.Workload
	moved            []*mesh.Workload // old and new, of those that changed

	sliced    map[string][]*discoveryv1.EndpointSlice // by service
	plain     map[string]*plain                       // Services, by name
	ofEntries []*mesh.Service
	problems  []Problem
	services  []*mesh.Service
	// How many Services are aliases, or may be, and how many have slices that name
	// more than pods of the namespace.
	aliases, anywhere int
	entriesMade       bool // since finish
	kept              *kept
}

// plain is a Service as it was made.
type plain struct {
	object   *corev1.Service
	service  *mesh.Service // before aliases
	final    *mesh.Service
	pods     map[string]bool // that its slices name
	anywhere bool            // they name more than pods of the namespace
}

// kept are the objects of a namespace; nobody changes them.
type kept struct {
	pods        []*corev1.Pod
	deployments []*appsv1.Deployment
	services    []*corev1.Service
	slices      []*discoveryv1.EndpointSlice
	hosts       []*networking.WorkloadEntry
}

func newSpace(name string) *space {
	return &space{name: name, podsChanged: map[string]bool{}, servicesChanged: map[string]bool{},
		is: map[string]*mesh.Workload{}, was: map[string]*mesh.Workload{}, named: map[string]*mesh.Workload{},
		sliced: map[string][]*discoveryv1.EndpointSlice{}, plain: map[string]*plain{}}
}

func (s *space) empty() bool {
	return len(s.pods.by)+len(s.deployments.by)+len(s.objects.by)+len(s.slices.by)+len(s.entries.by)+len(s.hosts.by) == 0
}

// setSlice concerns the service that it was of, and the one that it is of.
func (s *space) setSlice(v *discoveryv1.EndpointSlice, gone bool) {
	if old := s.slices.by[v.Namespace+"/"+v.Name]; old != nil {
		s.servicesChanged[serviceOf(old)] = true
	}
	s.slices.set(v, gone)
	s.servicesChanged[serviceOf(v)] = true
}

// makeWorkloads of the pods that changed. They are the pods that have not ended, and,
// for a Deployment none of whose pods is among them, one workload that stands for it.
func (s *space) makeWorkloads(labels map[string]string) (moved, over bool) {
	s.moved = nil
	if s.all {
		for _, p := range s.pods.by {
			s.podsChanged[p.Name] = true
		}
	}
	if len(s.podsChanged) == 0 && !s.all {
		return false, false
	}
	s.kept = nil
	pods := s.pods.sorted()
	for name := range s.podsChanged {
		var is, was *mesh.Workload
		if p := s.pod(name); p != nil && hasEnded(p) {
			was = ended(p)
		} else if p != nil {
			is = running(p, labels)
		}
		moved = s.move(s.is, name, is, true) || moved
		over = s.move(s.was, name, was, false) || over
	}
	if len(s.deployments.by) > 0 || s.podsChanged[""] {
		moved = s.withTemplates(labels) || moved
	} else if moved {
		s.workloads = nil
		for _, p := range pods {
			if w := s.is[p.Name]; w != nil {
				s.workloads = append(s.workloads, w)
			}
		}
		s.know()
	}
	if over {
		s.ended = nil
		for _, p := range pods {
			if w := s.was[p.Name]; w != nil {
				s.ended = append(s.ended, w)
			}
		}
	}
	clear(s.podsChanged)
	return moved, over
}

func (s *space) pod(name string) *corev1.Pod {
	if p := s.pods.by[s.name+"/"+name]; p != nil {
		return p
	}
	if s.name == "default" {
		return s.pods.by["/"+name] // a manifest without a namespace
	}
	return nil
}

// move puts what a pod is now in place of what it was, and reports whether that
// differs.
func (s *space) move(in map[string]*mesh.Workload, name string, now *mesh.Workload, note bool) bool {
	old := in[name]
	if old == now || old != nil && now != nil && reflect.DeepEqual(old, now) {
		return false
	}
	if now == nil {
		delete(in, name)
	} else {
		in[name] = now
	}
	if note {
		for _, w := range []*mesh.Workload{old, now} {
			if w != nil {
				s.moved = append(s.moved, w)
			}
		}
	}
	return true
}

// withTemplates lists the workloads where there are Deployments, which is in files
// alone.
func (s *space) withTemplates(labels map[string]string) bool {
	old := s.workloads
	s.workloads = slices.Collect(maps.Values(s.is))
	deployed := map[string]bool{}
	for _, w := range s.workloads {
		deployed[w.Owner] = true
	}
	for _, d := range s.deployments.sorted() {
		if deployed[d.Name] {
			continue
		}
		w := template(d, labels)
		for _, was := range old {
			if reflect.DeepEqual(was, w) {
				w = was
			}
		}
		s.workloads = append(s.workloads, w)
	}
	slices.SortStableFunc(s.workloads, world.ByName)
	if slices.Equal(old, s.workloads) {
		return false
	}
	s.moved = slices.Concat(old, s.workloads)
	s.know()
	return true
}

// know the workloads by their names.
func (s *space) know() {
	s.addresses = nil
	s.named = make(map[string]*mesh.Workload, len(s.workloads))
	for _, w := range s.workloads {
		s.named[w.Name] = w
	}
}

// who is at an address; it is looked up only by slices that name addresses alone.
func (s *space) who(a netip.Addr) *mesh.Workload {
	if s.addresses == nil {
		s.addresses = make(map[netip.Addr]*mesh.Workload, len(s.workloads))
		for _, w := range s.workloads {
			if w.HostNetwork {
				continue // its address is its node's, and many have it
			}
			for _, a := range w.Addresses {
				s.addresses[a] = w
			}
		}
	}
	return s.addresses[a]
}

// keep the objects as they are.
func (s *space) keep() *kept {
	if s.kept == nil {
		s.kept = &kept{s.pods.sorted(), s.deployments.sorted(), s.objects.sorted(), s.slices.sorted(), s.hosts.sorted()}
	}
	return s.kept
}
