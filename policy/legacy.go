package policy

import (
	"slices"

	"hasp/api"
	"hasp/mesh"
	"hasp/world"
)

// legacyMode decides by Policy and MeshPolicy: service before namespace before
// mesh, the oldest among equals; the winner replaces, nothing is merged. at are
// the service ports in front of the workload's port; without any, the levels of
// the namespace and the mesh remain.
func legacyMode(w *world.World, namespace string, at []servicePort) Server {
	var s Server
	set := func(origin mesh.Origin, spec api.PolicySpec, beaten string) {
		if s.Origin.Name == "" {
			s.Mode, s.Origin = legacySpecMode(spec), origin
			return
		}
		s.Lost = append(s.Lost, Loser{origin, beaten})
	}

	var first *api.Policy
	for _, p := range oldestFirst(w.Policies, func(p *api.Policy) bool { return p.Namespace == namespace && targets(p, at) }) {
		why := ""
		if first == nil {
			first = p
		} else {
			why = seniority(first, s.Origin.String(), p)
		}
		set(policyOrigin(p, mesh.LevelService), p.Spec, why)
	}
	for _, p := range w.Policies {
		if p.Namespace != namespace || len(p.Spec.Targets) > 0 {
			continue
		}
		origin := policyOrigin(p, mesh.LevelNamespace)
		if p.Name != "default" {
			s.Lost = append(s.Lost, Loser{origin, `a policy without targets is read only when it is named "default"`})
			continue
		}
		set(origin, p.Spec, s.Origin.String()+" is more specific")
	}
	for _, p := range w.MeshPolicies {
		origin := mesh.Origin{Kind: "MeshPolicy", Name: p.Name, Level: mesh.LevelMesh}
		if p.Name != "default" {
			s.Lost = append(s.Lost, Loser{origin, `only the MeshPolicy named "default" is read`})
			continue
		}
		set(origin, p.Spec, s.Origin.String()+" is more specific")
	}
	return s
}

func policyOrigin(p *api.Policy, level string) mesh.Origin {
	return mesh.Origin{Kind: "Policy", Namespace: p.Namespace, Name: p.Name, Level: level}
}

// targets reports whether one of the policy's targets is one of the service
// ports. A target is a short name in the policy's own namespace.
func targets(p *api.Policy, at []servicePort) bool {
	return slices.ContainsFunc(p.Spec.Targets, func(t api.Target) bool {
		host := t.Name + "." + p.Namespace + ".svc." + api.DomainSuffix
		return slices.ContainsFunc(at, func(sp servicePort) bool {
			return sp.svc.Hostname == host && selects(t.Ports, sp.port)
		})
	})
}

// selects reports whether port selectors pick a service port: by number or by
// name, and all ports when there are none.
func selects(ports []api.PortSelector, p mesh.ServicePort) bool {
	if len(ports) == 0 {
		return true
	}
	return slices.ContainsFunc(ports, func(s api.PortSelector) bool {
		if s.Name != "" {
			return s.Name == p.Name
		}
		return s.Number == uint32(p.Number)
	})
}

// legacySpecMode is the mode of a policy that applies. Its first mtls peer
// counts; one without a mode (mtls: {} or null) is STRICT; a policy without an
// mtls peer turns mutual TLS off.
func legacySpecMode(spec api.PolicySpec) mesh.Mode {
	for _, peer := range spec.Peers {
		if !peer.HasMTLS {
			continue
		}
		if peer.MTLSMode == "" {
			return mesh.ModeStrict
		}
		return mesh.Mode(peer.MTLSMode)
	}
	return mesh.ModeDisable
}
