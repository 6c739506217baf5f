package policy

import (
	"hasp/mesh"
	"hasp/world"
)

// ServerMode is how the proxy of a workload treats callers of one of the
// workload's (container) ports. The proxy of a gateway is told by Gateway
// objects instead, so nothing sets a mode for it.
func ServerMode(w *world.World, wl *mesh.Workload, port uint16) Server {
	if wl.Role == mesh.RoleGateway {
		return Server{}
	}
	old := legacyMode(w, wl.Namespace, servicePortsAt(w, wl, port))
	now, applies := peerAuthentication(w, wl, port)
	if !applies {
		return old
	}
	return replace(old, now)
}

// ServiceMode is how the workloads behind a service's port treat callers. Where
// they differ it is the strictest of them, for that one decides whether every
// call gets through; [Check] looks at each. A service outside the mesh has no
// mode of ours.
func ServiceMode(w *world.World, svc *mesh.Service, port uint16) Server {
	if svc.External {
		return Server{}
	}
	var strictest Server
	for i, b := range backends(w, svc, port) {
		if s := b.mode(w); i == 0 || strictness(s.Mode) > strictness(strictest.Mode) {
			strictest = s
		}
	}
	return strictest
}

// replace puts PeerAuthentication before Policy: where one applies, no Policy
// has a say in mutual TLS any more (Istio 1.5), not even when every
// PeerAuthentication leaves the mode UNSET.
func replace(old, now Server) Server {
	by := now.Origin
	if by.Name == "" {
		by = now.Lost[0].Origin
	}
	why := "replaced by " + by.String() + ": where a PeerAuthentication applies, Policy has no say in mutual TLS"
	if old.Origin.Name != "" {
		now.Lost = append(now.Lost, Loser{old.Origin, why})
	}
	for _, l := range old.Lost {
		now.Lost = append(now.Lost, Loser{l.Origin, why})
	}
	return now
}

// strictness orders modes. DISABLE is the lowest, so that the strictest of
// several is DISABLE only if all of them are.
func strictness(m mesh.Mode) int {
	switch m {
	case mesh.ModeDisable:
		return 0
	case mesh.ModeUnset:
		return 1
	case mesh.ModePermissive:
		return 2
	default: // STRICT, and any word we do not know
		return 3
	}
}
