// Package world holds one immutable snapshot of everything the control plane
// knows: settings, services, workloads and the istio.io objects. Package source
// builds it, package policy decides from it, package compile turns it into the
// configuration of one proxy. Nobody changes a World after it was built.
package world

import (
	"reflect"
	"slices"

	networking "istio.io/client-go/pkg/apis/networking/v1"
	security "istio.io/client-go/pkg/apis/security/v1"

	"hasp/api"
	"hasp/mesh"
)

// World is a snapshot. Slices of objects are sorted by namespace, then name.
type World struct {
	// Generation counts the snapshots of one control plane, from 1.
	Generation uint64
	Mesh       *api.MeshConfig

	Services  []*mesh.Service  // by Namespace, Hostname
	Workloads []*mesh.Workload // by Namespace, Name
	// Ended are pods that are over and still there, by Namespace, Name: who was at
	// an address a moment ago. A pod may be over before anybody saw it run.
	Ended []*mesh.Workload

	Policies              []*api.Policy
	MeshPolicies          []*api.MeshPolicy
	PeerAuthentications   []*security.PeerAuthentication
	AuthorizationPolicies []*security.AuthorizationPolicy
	DestinationRules      []*networking.DestinationRule
	Gateways              []*networking.Gateway
	VirtualServices       []*networking.VirtualService

	// Secrets are the TLS Secrets that Gateways name, by NAMESPACE/NAME.
	Secrets map[string]mesh.Secret

	found *index // by Index or IndexAfter
}

// Equal reports whether two snapshots say the same, in the same generation. What
// they share costs nothing.
func (w *World) Equal(o *World) bool {
	return w.Generation == o.Generation && (w.Mesh == o.Mesh || reflect.DeepEqual(w.Mesh, o.Mesh)) &&
		same(w.Services, o.Services) && same(w.Workloads, o.Workloads) && same(w.Ended, o.Ended) &&
		same(w.Policies, o.Policies) && same(w.MeshPolicies, o.MeshPolicies) && same(w.PeerAuthentications, o.PeerAuthentications) &&
		same(w.AuthorizationPolicies, o.AuthorizationPolicies) && same(w.DestinationRules, o.DestinationRules) &&
		same(w.Gateways, o.Gateways) && same(w.VirtualServices, o.VirtualServices) &&
		(sameMap(w.Secrets, o.Secrets) || reflect.DeepEqual(w.Secrets, o.Secrets))
}

func same[T any](a, b []*T) bool {
	return slices.EqualFunc(a, b, func(x, y *T) bool { return x == y || reflect.DeepEqual(x, y) })
}

func sameMap[K comparable, V any](a, b map[K]V) bool {
	return reflect.ValueOf(a).UnsafePointer() == reflect.ValueOf(b).UnsafePointer()
}
