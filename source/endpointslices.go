package source

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"hasp/mesh"
)

// serviceOf is the name of the Service that a slice lists endpoints of, "" for none.
// Slices of names (FQDN) are left alone: no version of Kubernetes gives them a
// meaning.
func serviceOf(s *discoveryv1.EndpointSlice) string {
	if s.AddressType == discoveryv1.AddressTypeFQDN || s.DeletionTimestamp != nil {
		return ""
	}
	return s.Labels[discoveryv1.LabelServiceName]
}

// references are the pods of its own namespace that a slice names. Abroad says that
// it names something else, too: what that is depends on other namespaces.
func references(s *discoveryv1.EndpointSlice, into map[string]bool) (abroad bool) {
	for _, e := range s.Endpoints {
		if ref := e.TargetRef; ref != nil && ref.Kind == "Pod" && (ref.Namespace == "" || ref.Namespace == s.Namespace) {
			into[ref.Name] = true
		} else {
			abroad = true
		}
	}
	return abroad
}

// listed are the endpoints of a slice that can be used for the service: those
// that are ready. (One that terminates is not, whether it still serves or not.)
func (b *Builder) listed(svc *mesh.Service, slice *discoveryv1.EndpointSlice, notReadyToo bool) []mesh.Endpoint {
	var out []mesh.Endpoint
	for _, p := range svc.Ports {
		port, ok := slicePort(slice, p.Name)
		if !ok {
			continue
		}
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready && !notReadyToo {
				continue
			}
			for _, text := range e.Addresses {
				addr, err := netip.ParseAddr(text)
				if err != nil {
					continue
				}
				w, known := b.who(slice.Namespace, e.TargetRef, addr)
				at := mesh.Endpoint{ServicePort: p.Number, Addr: addr, Port: port}
				switch {
				case !known, w != nil && !w.Ready && !notReadyToo:
					continue
				case w != nil:
					at = endpointOf(w, b.domain, at)
				}
				out = append(out, at)
			}
		}
	}
	return out
}

// who is at an address of a slice: a workload, or nil for an address outside
// the mesh. It is not known when the slice names a pod that we do not have, or
// have at another address: the slice is ahead of the pods that we read, or behind
// them and the address may be another pod's already. Such an endpoint waits,
// since to take it for one outside the mesh would be to speak plaintext to it.
func (b *Builder) who(namespace string, ref *corev1.ObjectReference, addr netip.Addr) (w *mesh.Workload, known bool) {
	if ref == nil || ref.Kind != "Pod" {
		return b.at(addr), true
	}
	if ref.Namespace != "" {
		namespace = ref.Namespace
	}
	w = b.named(namespace, ref.Name)
	return w, w != nil && slices.Contains(w.Addresses, addr)
}

// slicePort is the slice's TCP port for the service port of that name.
func slicePort(slice *discoveryv1.EndpointSlice, name string) (uint16, bool) {
	for _, p := range slice.Ports {
		named := p.Name != nil && *p.Name == name || p.Name == nil && name == ""
		tcp := p.Protocol == nil || *p.Protocol == corev1.ProtocolTCP
		if named && tcp && p.Port != nil && *p.Port > 0 && *p.Port <= 65535 {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

// named is the workload of a name, or nil.
func (b *Builder) named(namespace, name string) *mesh.Workload {
	if s := b.spaces[namespace]; s != nil {
		return s.named[name]
	}
	return nil
}

// at is who is at an address, or nil; of several the last. A node's address is many
// pods'.
func (b *Builder) at(a netip.Addr) *mesh.Workload {
	for _, name := range slices.Backward(b.order) {
		if w := b.spaces[name].who(a); w != nil {
			return w
		}
	}
	return nil
}
