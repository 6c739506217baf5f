package source

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"

	networking "istio.io/client-go/pkg/apis/networking/v1"
	security "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"hasp/api"
	"hasp/mesh"
	"hasp/world"
)

// Builder makes one World after the other of objects that change. What did not
// change is not made again: the next World has the very same workloads and services,
// so that whoever compares two of them sees at a glance what is new. The Worlds are
// those that [Build] makes of the same objects.
//
// It is not safe for concurrent use; the Worlds are.
type Builder struct {
	trustDomain string // of the running CA, or empty

	namespaces list[*corev1.Namespace]
	secrets    list[*corev1.Secret]
	configMaps list[*corev1.ConfigMap]
	config     configuration
	spaces     map[string]*space

	// What changed since the last World, but for what the spaces know.
	relabelled     map[string]bool // namespaces
	entriesChanged bool            // some ServiceEntry
	configChanged  bool            // the configuration or a ConfigMap
	secretsChanged bool

	last       *world.World
	domain     string   // trust domain of the World in the making
	order      []string // names of the spaces
	configured *Objects
	settled    []Problem // of the mesh's settings
	addresses  map[entryHost]netip.Addr
}

// configuration is the objects that a World has as they are.
type configuration struct {
	policies              list[*api.Policy]
	meshPolicies          list[*api.MeshPolicy]
	peerAuthentications   list[*security.PeerAuthentication]
	authorizationPolicies list[*security.AuthorizationPolicy]
	destinationRules      list[*networking.DestinationRule]
	gateways              list[*networking.Gateway]
	virtualServices       list[*networking.VirtualService]
}

// NewBuilder has no objects yet. The trust domain is that of the running CA, which a
// mesh cannot change while it runs; empty (no mesh runs) takes what the settings say.
func NewBuilder(trustDomain string) *Builder {
	return &Builder{trustDomain: trustDomain, spaces: map[string]*space{}, relabelled: map[string]bool{}, configChanged: true, secretsChanged: true}
}

// Set an object, in place of the one of its kind and name.
func (b *Builder) Set(v any) { b.change(v, false) }

// Remove an object; which it is is all that matters of v.
func (b *Builder) Remove(v any) { b.change(v, true) }

func (b *Builder) change(v any, gone bool) {
	switch v := v.(type) {
	case *corev1.Namespace:
		if old := b.namespaces.by["/"+v.Name]; old == nil || gone || !maps.Equal(old.Labels, v.Labels) {
			b.relabelled[v.Name] = true
		}
		b.namespaces.set(v, gone)
	case *corev1.Secret:
		b.secrets.set(v, gone)
		b.secretsChanged = true
	case *corev1.ConfigMap:
		b.configMaps.set(v, gone)
		b.configChanged = true
	case *corev1.Pod:
		s := b.space(v.Namespace)
		s.pods.set(v, gone)
		s.podsChanged[v.Name] = true
	case *appsv1.Deployment:
		s := b.space(v.Namespace)
		s.deployments.set(v, gone)
		s.podsChanged[""] = true
	case *corev1.Service:
		s := b.space(v.Namespace)
		s.objects.set(v, gone)
		s.servicesChanged[v.Name] = true
	case *discoveryv1.EndpointSlice:
		b.space(v.Namespace).setSlice(v, gone)
	case *networking.ServiceEntry:
		s := b.space(v.Namespace)
		s.entries.set(v, gone)
		s.entriesChanged, b.entriesChanged, b.configChanged = true, true, true
	case *networking.WorkloadEntry:
		s := b.space(v.Namespace)
		s.hosts.set(v, gone)
		s.entriesChanged = true
	default:
		b.configChanged = b.config.change(v, gone) || b.configChanged
	}
}

// change reports whether v is of the configuration.
func (c *configuration) change(v any, gone bool) bool {
	switch v := v.(type) {
	case *api.Policy:
		c.policies.set(v, gone)
	case *api.MeshPolicy:
		c.meshPolicies.set(v, gone)
	case *security.PeerAuthentication:
		c.peerAuthentications.set(v, gone)
	case *security.AuthorizationPolicy:
		c.authorizationPolicies.set(v, gone)
	case *networking.DestinationRule:
		c.destinationRules.set(v, gone)
	case *networking.Gateway:
		c.gateways.set(v, gone)
	case *networking.VirtualService:
		c.virtualServices.set(v, gone)
	default:
		return false
	}
	return true
}

// space of a namespace, which may be named by none as "default" is.
func (b *Builder) space(namespace string) *space {
	namespace = cmp.Or(namespace, "default")
	s := b.spaces[namespace]
	if s == nil {
		s = newSpace(namespace)
		b.spaces[namespace] = s
		i, _ := slices.BinarySearch(b.order, namespace)
		b.order = slices.Insert(b.order, i, namespace)
	}
	return s
}

// Built is a World with what it was built from.
type Built struct {
	World    *world.World
	Problems []Problem
	// Configured are the objects that say something to the mesh: those of istio.io and
	// the ConfigMaps. It is the same one until one of them changes.
	Configured *Objects
	// Objects are all of them, gathered when they are asked for.
	Objects func() *Objects
}

// Build the World of the objects as they are.
func (b *Builder) Build() Built {
	w := &world.World{}
	if b.last == nil || b.configChanged {
		b.configure(w)
	} else {
		l := b.last
		w.Mesh, w.Policies, w.MeshPolicies, w.PeerAuthentications, w.AuthorizationPolicies = l.Mesh, l.Policies, l.MeshPolicies, l.PeerAuthentications, l.AuthorizationPolicies
		w.DestinationRules, w.Gateways, w.VirtualServices = l.DestinationRules, l.Gateways, l.VirtualServices
	}
	if b.last == nil || b.secretsChanged {
		w.Secrets = secrets(b.secrets.sorted())
	} else {
		w.Secrets = b.last.Secrets
	}
	b.populate(w)
	w.IndexAfter(b.last)

	problems := slices.Clone(b.settled)
	for _, name := range b.order {
		problems = append(problems, b.spaces[name].problems...)
	}
	b.last, b.configChanged, b.secretsChanged, b.entriesChanged = w, false, false, false
	clear(b.relabelled)
	b.sweep()
	return Built{World: w, Problems: problems, Configured: b.configured, Objects: b.objects()}
}

// configure reads the settings and the configuration.
func (b *Builder) configure(w *world.World) {
	w.Mesh, b.settled = meshConfig(b.configMaps.sorted())
	if td := b.trustDomain; td != "" && td != w.Mesh.TrustDomain {
		b.settled = append(b.settled, Problem{settings(w.Mesh.RootNamespace),
			fmt.Sprintf("trustDomain: the running CA signs for %s; restart the mesh to go over to %s", td, w.Mesh.TrustDomain)})
		w.Mesh.TrustDomain = td
	}
	if b.last != nil && reflect.DeepEqual(b.last.Mesh, w.Mesh) {
		w.Mesh = b.last.Mesh
	}
	c := &b.config
	w.Policies = c.policies.sorted()
	w.MeshPolicies = c.meshPolicies.sorted()
	w.PeerAuthentications = c.peerAuthentications.sorted()
	w.AuthorizationPolicies = c.authorizationPolicies.sorted()
	w.DestinationRules = c.destinationRules.sorted()
	w.Gateways = c.gateways.sorted()
	w.VirtualServices = c.virtualServices.sorted()
	b.configured = &Objects{
		ConfigMaps: b.configMaps.sorted(), Policies: w.Policies, MeshPolicies: w.MeshPolicies, PeerAuthentications: w.PeerAuthentications,
		AuthorizationPolicies: w.AuthorizationPolicies, DestinationRules: w.DestinationRules, Gateways: w.Gateways, VirtualServices: w.VirtualServices,
	}
	for _, name := range b.order {
		b.configured.ServiceEntries = append(b.configured.ServiceEntries, b.spaces[name].entries.sorted()...)
	}
}

// populate makes the workloads and services, namespace by namespace. Nearly all that
// one has follows from its own objects; makeServices and finish ask for the rest.
func (b *Builder) populate(w *world.World) {
	all := b.last == nil || b.last.Mesh.TrustDomain != w.Mesh.TrustDomain
	b.domain = w.Mesh.TrustDomain
	var moved, over, changed bool
	for _, name := range b.order {
		s := b.spaces[name]
		s.all = all || b.relabelled[name]
		m, o := s.makeWorkloads(b.labels(name))
		moved, over = moved || m, over || o
	}
	if b.entriesChanged {
		b.giveAddresses()
	}
	for _, name := range b.order {
		b.spaces[name].makeServices(b, moved)
	}
	for _, name := range b.order {
		changed = b.spaces[name].finish(b) || changed
	}
	if b.last != nil {
		w.Workloads, w.Ended, w.Services = b.last.Workloads, b.last.Ended, b.last.Services
	}
	if moved {
		w.Workloads = gather(b, func(s *space) []*mesh.Workload { return s.workloads })
	}
	if over {
		w.Ended = gather(b, func(s *space) []*mesh.Workload { return s.ended })
	}
	if changed {
		w.Services = gather(b, func(s *space) []*mesh.Service { return s.services })
	}
}

// gather a list of all namespaces.
func gather[T any](b *Builder, of func(*space) []T) []T {
	n := 0
	for _, s := range b.spaces {
		n += len(of(s))
	}
	if n == 0 {
		return nil
	}
	out := make([]T, 0, n)
	for _, name := range b.order {
		out = append(out, of(b.spaces[name])...)
	}
	return out
}

func (b *Builder) labels(namespace string) map[string]string {
	if n := b.namespaces.by["/"+namespace]; n != nil {
		return n.Labels
	}
	return nil
}

// sweep forgets namespaces that have nothing any more.
func (b *Builder) sweep() {
	b.order = slices.DeleteFunc(b.order, func(name string) bool {
		empty := b.spaces[name].empty()
		if empty {
			delete(b.spaces, name)
		}
		return empty
	})
}

// objects are all that there are, to be gathered later.
func (b *Builder) objects() func() *Objects {
	out := *b.configured
	out.Namespaces, out.Secrets = b.namespaces.sorted(), b.secrets.sorted()
	kept := make([]*kept, 0, len(b.order))
	for _, name := range b.order {
		kept = append(kept, b.spaces[name].keep())
	}
	return sync.OnceValue(func() *Objects {
		for _, k := range kept {
			out.Pods = append(out.Pods, k.pods...)
			out.Deployments = append(out.Deployments, k.deployments...)
			out.Services = append(out.Services, k.services...)
			out.EndpointSlices = append(out.EndpointSlices, k.slices...)
			out.WorkloadEntries = append(out.WorkloadEntries, k.hosts...)
		}
		return &out
	})
}
