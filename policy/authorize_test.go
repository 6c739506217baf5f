package policy_test

import (
	"testing"

	"hasp/policy"
	"hasp/policy/authz"
)

// cluster.local in a principal is the mesh's own trust domain, whatever it is
// called: who comes from Istio with such a DENY keeps it.
func TestClusterLocalIsTheMeshsTrustDomain(t *testing.T) {
	w := load(t, []byte(`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: source, namespace: shop, creationTimestamp: 2024-03-01T00:00:00Z}
spec: {action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/bank/sa/teller]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: when, namespace: shop, creationTimestamp: 2024-03-01T00:00:00Z}
spec: {action: DENY, rules: [{when: [{key: source.principal, values: [cluster.local/ns/bank/sa/guard]}]}]}
`))
	w.Mesh.TrustDomain = "corp.example"
	for _, wl := range w.Workloads {
		if wl.Namespace != "shop" {
			continue
		}
		a := policy.Authorization(w, wl)
		for identity, want := range map[string]bool{
			"spiffe://corp.example/ns/bank/sa/teller":  false,
			"spiffe://corp.example/ns/bank/sa/guard":   false,
			"spiffe://corp.example/ns/bank/sa/default": true,
			"spiffe://cluster.local/ns/bank/sa/teller": true, // of another mesh
		} {
			if got := authz.Decide(a, authz.Caller{Identity: identity}); got.Allowed != want {
				t.Errorf("%s is let in: %v, %s", identity, got.Allowed, got.Why)
			}
		}
	}
}
