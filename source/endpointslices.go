package source

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"hasp/mesh"
)

// byService files EndpointSlices under NAMESPACE/NAME of their Service. Slices
// of names (FQDN) are left alone: no version of Kubernetes gives them a meaning.
func byService(list []*discoveryv1.EndpointSlice) map[string][]*discoveryv1.EndpointSlice {
	out := map[string][]*discoveryv1.EndpointSlice{}
	for _, s := range list {
		name := s.Labels[discoveryv1.LabelServiceName]
		if name == "" || s.AddressType == discoveryv1.AddressTypeFQDN || s.DeletionTimestamp != nil {
			continue
		}
		key := s.Namespace + "/" + name
		out[key] = append(out[key], s)
	}
	return out
}

// directory finds workloads for what slices list.
type directory struct {
	in          map[string][]*mesh.Workload // by namespace
	named       map[string]*mesh.Workload   // by NAMESPACE/NAME
	at          map[netip.Addr]*mesh.Workload
	trustDomain string
}

func newDirectory(workloads []*mesh.Workload, trustDomain string) *directory {
	d := &directory{in: map[string][]*mesh.Workload{}, named: map[string]*mesh.Workload{}, at: map[netip.Addr]*mesh.Workload{}, trustDomain: trustDomain}
	for _, w := range workloads {
		d.in[w.Namespace] = append(d.in[w.Namespace], w)
		d.named[w.Key()] = w
		if w.HostNetwork {
			continue // its address is its node's, and many have it
		}
		for _, a := range w.Addresses {
			d.at[a] = w
		}
	}
	return d
}

// listed are the endpoints of a slice that can be used for the service: those
// that are ready. (One that terminates is not, whether it still serves or not.)
func (d *directory) listed(svc *mesh.Service, slice *discoveryv1.EndpointSlice, notReadyToo bool) []mesh.Endpoint {
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
				w, known := d.who(slice.Namespace, e.TargetRef, addr)
				at := mesh.Endpoint{ServicePort: p.Number, Addr: addr, Port: port}
				switch {
				case !known, w != nil && !w.Ready && !notReadyToo:
					continue
				case w != nil:
					at = endpointOf(w, d.trustDomain, at)
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
func (d *directory) who(namespace string, ref *corev1.ObjectReference, addr netip.Addr) (w *mesh.Workload, known bool) {
	if ref == nil || ref.Kind != "Pod" {
		return d.at[addr], true
	}
	if ref.Namespace != "" {
		namespace = ref.Namespace
	}
	w = d.named[namespace+"/"+ref.Name]
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
