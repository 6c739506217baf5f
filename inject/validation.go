package inject

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"hasp/mesh"
)

// validationContainer sees that the node captured the pod's connections, before
// the sidecar is there. A pod that is made on a node while the CNI plugin is not
// would start uncaptured otherwise, and serve plaintext past every policy. It is
// of another user than the sidecar, whose connections are not captured.
func (s sidecar) validationContainer(targets []netip.AddrPort) corev1.Container {
	user := s.uid - 1 // in OpenShift's range too, of which the sidecar's is the last
	if user == 0 {
		user = s.uid + 1
	}
	return corev1.Container{
		Name:            ValidationContainer,
		Image:           s.cfg.Image,
		ImagePullPolicy: s.cfg.ImagePullPolicy,
		Args:            []string{"verify", "--targets=" + joined(targets, netip.AddrPort.String)},
		Resources:       *s.cfg.Resources.DeepCopy(),
		SecurityContext: unprivileged(user),
	}
}

// maxTargets bounds how many are tried: each may cost two seconds.
const maxTargets = 4

// targets are addresses to which connections are captured, those that nobody has
// where they can be, so that nobody is called when they are not. There are none for a pod without outbound capture: what is
// inbound cannot be seen from inside.
func (s sidecar) targets() []netip.AddrPort {
	p := s.plan
	port := uint16(9) // discard
	for slices.Contains(p.ExcludeOutboundPorts, port) {
		port++
	}
	var out []netip.AddrPort
	add := func(a netip.Addr, port uint16) {
		excluded := func(r netip.Prefix) bool { return r.Contains(a) }
		if len(out) < maxTargets && !a.IsLoopback() && !slices.ContainsFunc(p.ExcludeOutboundRanges, excluded) {
			out = append(out, netip.AddrPortFrom(a, port))
		}
	}
	if p.IncludeOutboundRanges == nil {
		for _, a := range mesh.Nobodys() {
			add(a, port)
		}
		return out
	}
	for _, port := range p.IncludeOutboundPorts {
		for _, a := range mesh.Nobodys() {
			add(a, port)
		}
	}
	for _, r := range p.IncludeOutboundRanges {
		a := r.Addr()
		if next := a.Next(); r.Contains(next) {
			a = next // the first of a network is none of a machine
		}
		add(a, port)
	}
	return out
}
