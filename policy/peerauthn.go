package policy

import (
	securityapi "istio.io/api/security/v1beta1"
	security "istio.io/client-go/pkg/apis/security/v1"

	"hasp/mesh"
	"hasp/world"
)

// layer is one level of PeerAuthentication: those that apply at it, the oldest
// first. Only the oldest counts.
type layer struct {
	level  string
	oldest []*security.PeerAuthentication
}

// peerAuthentication composes the modes of mesh, namespace and workload for a
// workload's port, as Istio's ComposePeerAuthentication does: UNSET leaves the
// parent's mode, ports come from the workload's object alone. applies is false
// when no PeerAuthentication applies at all, and Policy may decide.
func peerAuthentication(w *world.World, wl *mesh.Workload, port uint16) (s Server, applies bool) {
	layers, ignored := peerLayers(w, wl)
	for _, l := range layers { // mesh, namespace, workload
		if len(l.oldest) == 0 {
			continue
		}
		applies = true
		pa := l.oldest[0]
		m := peerMode(pa.Spec.GetMtls())
		if m == mesh.ModeUnset && l.level == mesh.LevelMesh {
			m = mesh.ModePermissive // what UNSET means where there is no parent
		}
		if m != mesh.ModeUnset {
			s.Mode, s.Origin = m, peerOrigin(pa, l.level)
		}
		if l.level != mesh.LevelWorkload {
			continue
		}
		if m := peerMode(pa.Spec.GetPortLevelMtls()[uint32(port)]); m != mesh.ModeUnset {
			s.Mode, s.Origin = m, peerOrigin(pa, mesh.LevelPort)
		}
	}
	if applies {
		s.Lost = append(peerLosers(layers, s.Origin), ignored...)
	}
	return s, applies
}

// peerLayers sorts the objects that concern a workload into their levels. One
// with a selector in the root namespace is ignored, as in Istio: it would reach
// into every namespace.
func peerLayers(w *world.World, wl *mesh.Workload) (layers [3]layer, ignored []Loser) {
	layers = [3]layer{{level: mesh.LevelMesh}, {level: mesh.LevelNamespace}, {level: mesh.LevelWorkload}}
	root := w.Mesh.RootNamespace
	concerns := func(pa *security.PeerAuthentication) bool {
		return (pa.Namespace == root || pa.Namespace == wl.Namespace) && subsetOf(pa.Spec.GetSelector().GetMatchLabels(), wl.Labels)
	}
	for _, pa := range oldestFirst(w.PeerAuthentications, concerns) {
		selector := pa.Spec.GetSelector().GetMatchLabels()
		switch {
		case pa.Namespace == root && len(selector) > 0:
			ignored = append(ignored, Loser{peerOrigin(pa, mesh.LevelWorkload),
				"a selector is ignored in the root namespace " + root})
		case pa.Namespace == root:
			layers[0].oldest = append(layers[0].oldest, pa)
		case len(selector) == 0:
			layers[1].oldest = append(layers[1].oldest, pa)
		default:
			layers[2].oldest = append(layers[2].oldest, pa)
		}
	}
	return layers, ignored
}

// peerLosers says of every object that applies and did not decide why, the most
// specific first.
func peerLosers(layers [3]layer, winner mesh.Origin) []Loser {
	var lost []Loser
	for i := len(layers) - 1; i >= 0; i-- {
		l := layers[i]
		for n, pa := range l.oldest {
			o := peerOrigin(pa, l.level)
			switch {
			case n > 0:
				first := l.oldest[0]
				lost = append(lost, Loser{o, seniority(first, peerOrigin(first, l.level).String(), pa)})
			case sameObject(o, winner):
			case peerMode(pa.Spec.GetMtls()) == mesh.ModeUnset:
				lost = append(lost, Loser{o, "its mode is UNSET, which leaves what the level above says"})
			default:
				lost = append(lost, Loser{o, winner.String() + " is more specific"})
			}
		}
	}
	return lost
}

func peerOrigin(pa *security.PeerAuthentication, level string) mesh.Origin {
	return mesh.Origin{Kind: "PeerAuthentication", Namespace: pa.Namespace, Name: pa.Name, Level: level}
}

func peerMode(m *securityapi.PeerAuthentication_MutualTLS) mesh.Mode {
	if m.GetMode() == securityapi.PeerAuthentication_MutualTLS_UNSET {
		return mesh.ModeUnset
	}
	return mesh.Mode(m.GetMode().String())
}

// sameObject compares origins whatever level they decided at.
func sameObject(a, b mesh.Origin) bool {
	a.Level, b.Level = "", ""
	return a == b
}

// subsetOf reports whether labels carry every pair of a selector; an empty
// selector selects everything.
func subsetOf(selector, labels map[string]string) bool {
	for k, v := range selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}
