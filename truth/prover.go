package truth

import (
	"strings"

	"hasp/api"
	"hasp/mesh"
)

// provers are from where hasp verify knocked: it showed its certificate there,
// which nobody else can.
func provers(f *Facts) map[string]bool {
	out := map[string]bool{}
	for i := range f.Edges {
		e := &f.Edges[i]
		if e.Direction != mesh.InboundDir || e.Security != mesh.MutualTLS || !strings.HasSuffix(e.PeerIdentity, mesh.VerifierAccount) {
			continue
		}
		domain, _, _, _ := mesh.ParseIdentity(e.PeerIdentity)
		if domain != mesh.StrangerDomain && ofVerifier(e.PeerIdentity) {
			out[comesFrom(&e.EdgeKey)] = true
		}
	}
	return out
}

func ofVerifier(identity string) bool {
	return mesh.OfVerifier(identity, api.DefaultMeshConfig().RootNamespace)
}

// comesFrom is the workload or the address at the other end.
func comesFrom(k *mesh.EdgeKey) string {
	if k.Peer != "" {
		return k.Peer
	}
	return k.PeerNet.String()
}

// knocks is whether an edge is what hasp verify tries itself: what it shows a
// certificate for, and the plaintext from the same place that was refused, as it
// is meant to be. It is no client of anybody's.
func (s *scene) knocks(k *mesh.EdgeKey) bool {
	if k.Direction != mesh.InboundDir {
		return false
	}
	return ofVerifier(k.PeerIdentity) || !k.Allowed && k.PeerIdentity == "" && s.provers[comesFrom(k)]
}
