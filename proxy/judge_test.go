package proxy

import (
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/mesh"
)

// A root may sign for several meshes. Who another one vouches for is not of our
// namespaces, in no mode.
func TestAnIdentityOfAnotherTrustDomainIsNotAuthorized(t *testing.T) {
	shop := mesh.AuthorizationRules{Rules: []mesh.AuthorizationRule{{From: []mesh.AuthorizationSource{{Namespaces: []string{"shop"}}}}}}
	for _, mode := range []mesh.Mode{mesh.ModeUnset, mesh.ModePermissive, mesh.ModeDisable, mesh.ModeStrict} {
		s := &settings{trustDomain: spiffeid.RequireTrustDomainFromString("cluster.local"), config: &mesh.ProxyConfig{}}
		s.config.Inbound.Default.Mode = mode
		s.config.Inbound.Authorization.Allow = []mesh.AuthorizationRules{shop}
		for identity, want := range map[string]bool{"spiffe://cluster.local/ns/shop/sa/web": true, "spiffe://other/ns/shop/sa/web": false} {
			f := &mesh.Connection{Direction: mesh.InboundDir, Security: mesh.MutualTLS, PeerIdentity: identity}
			v := judge(s, f)
			if v.Allow != want || !want && v.Why != identity+" is not of trust domain cluster.local" {
				t.Errorf("mode %q: %s is let in: %v, %q", mode, identity, v.Allow, v.Why)
			}
		}
	}
}
