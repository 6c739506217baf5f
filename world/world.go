// Package world holds one immutable snapshot of everything the control plane
// knows: settings, services, workloads and the istio.io objects. Package source
// builds it, package policy decides from it, package compile turns it into the
// configuration of one proxy. Nobody changes a World after it was built.
package world

import (
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

	Policies            []*api.Policy
	MeshPolicies        []*api.MeshPolicy
	PeerAuthentications []*security.PeerAuthentication
	DestinationRules    []*networking.DestinationRule
	Gateways            []*networking.Gateway
	VirtualServices     []*networking.VirtualService

	// Secrets are the TLS Secrets that Gateways name, by NAMESPACE/NAME.
	Secrets map[string]mesh.Secret
}

// Service by hostname as seen in a namespace: a service of the client's own
// namespace before one of another with the same hostname. Nil when unknown.
func (w *World) Service(clientNamespace, hostname string) *mesh.Service {
	var found *mesh.Service
	for _, s := range w.Services {
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
	for _, wl := range w.Workloads {
		if wl.Key() == key {
			return wl
		}
	}
	return nil
}

// ServicesOf are the services whose selector picks the workload.
func (w *World) ServicesOf(wl *mesh.Workload) []*mesh.Service {
	var out []*mesh.Service
	for _, s := range w.Services {
		if s.Namespace == wl.Namespace && len(s.Selector) > 0 && matches(s.Selector, wl.Labels) {
			out = append(out, s)
		}
	}
	return out
}

// WorkloadsOf are the workloads that a service's selector picks.
func (w *World) WorkloadsOf(s *mesh.Service) []*mesh.Workload {
	var out []*mesh.Workload
	for _, wl := range w.Workloads {
		if wl.Namespace == s.Namespace && len(s.Selector) > 0 && matches(s.Selector, wl.Labels) {
			out = append(out, wl)
		}
	}
	return out
}

func matches(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}
