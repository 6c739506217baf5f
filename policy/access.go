package policy

import (
	"net/netip"

	"hasp/mesh"
	"hasp/policy/authz"
	"hasp/world"
)

// Access says whether the workloads behind a service's port let a caller in, by
// the AuthorizationPolicy objects that apply to them: refused when one of them
// refuses. It is about who calls; [Check] is about how.
func Access(w *world.World, from *mesh.Workload, svc *mesh.Service, port uint16, subset string) authz.Verdict {
	client := ClientTLS(w, from, from.Namespace, svc, port, subset)
	verdict := authz.Verdict{Allowed: true}
	for _, b := range backends(w, svc, port) {
		if !b.sidecar() {
			continue // nothing there asks
		}
		c := authz.Caller{Destination: netip.AddrPortFrom(first(b.wl.Addresses), b.port), Source: first(from.Addresses)}
		// What a proxy proves depends on what it speaks, and to whom.
		if from.Role != mesh.RoleNone && (client.Auto || client.Mode == mesh.ClientIstioMutual) {
			c.Identity = from.Identity(w.Mesh.TrustDomain)
		}
		v := authz.Decide(Authorization(w, b.wl), c)
		if !v.Allowed {
			return v
		}
		if v.Origin.Name != "" {
			verdict = v
		}
	}
	return verdict
}

func first(list []netip.Addr) netip.Addr {
	if len(list) == 0 {
		return netip.Addr{}
	}
	return list[0]
}
