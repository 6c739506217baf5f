package judge_test

import (
	"testing"

	"hasp/mesh"
	"hasp/policy/judge"
)

// A root may sign for several meshes. Who another one vouches for is not of our
// namespaces, in no mode.
func TestAnIdentityOfAnotherTrustDomainIsNotAuthorized(t *testing.T) {
	shop := mesh.AuthorizationRules{Rules: []mesh.AuthorizationRule{{From: []mesh.AuthorizationSource{{Namespaces: []string{"shop"}}}}}}
	for _, mode := range []mesh.Mode{mesh.ModeUnset, mesh.ModePermissive, mesh.ModeDisable, mesh.ModeStrict} {
		c := &mesh.ProxyConfig{TrustDomain: "cluster.local"}
		c.Inbound.Default.Mode = mode
		c.Inbound.Authorization.Allow = []mesh.AuthorizationRules{shop}
		x, err := judge.New(c)
		if err != nil {
			t.Fatal(err)
		}
		for identity, want := range map[string]bool{"spiffe://cluster.local/ns/shop/sa/web": true, "spiffe://other/ns/shop/sa/web": false} {
			f := &mesh.Connection{Direction: mesh.InboundDir, Security: mesh.MutualTLS, PeerIdentity: identity}
			v := x.Judge(f)
			if v.Allow != want || !want && v.Why != identity+" is not of trust domain cluster.local" {
				t.Errorf("mode %q: %s is let in: %v, %q", mode, identity, v.Allow, v.Why)
			}
		}
	}
}
