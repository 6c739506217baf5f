// Package world holds one immutable snapshot of everything the control plane
// knows: settings, services, workloads and the istio.io objects. Package source
// builds it, package policy decides from it, package compile turns it into the
// configuration of one proxy. Nobody changes a World after it was built.
package world

import (
	"reflect"

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

	found *index // by Index
}

// Equal reports whether two snapshots say the same, in the same generation.
func (w *World) Equal(o *World) bool {
	a, b := *w, *o
	a.found, b.found = nil, nil
	return reflect.DeepEqual(a, b)
}
