package policy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/api"
	"hasp/mesh"
	"hasp/policy"
	"hasp/world"
)

// Names that validation refuses at apply may still stand in a store that an
// older version filled: they are passed over, and named.
func TestMisnamedPoliciesAreNotRead(t *testing.T) {
	strict := api.PolicySpec{Peers: []api.PeerMethod{{HasMTLS: true, MTLSMode: "STRICT"}}}
	w := &world.World{
		Mesh:         &api.MeshConfig{RootNamespace: "istio-system", TrustDomain: "cluster.local"},
		Policies:     []*api.Policy{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "all"}, Spec: strict}},
		MeshPolicies: []*api.MeshPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "all"}, Spec: strict}},
	}
	got := policy.ServerMode(w, &mesh.Workload{Namespace: "shop", Name: "boards"}, 8080)
	want := policy.Server{Lost: []policy.Loser{
		{Origin: mesh.Origin{Kind: "Policy", Namespace: "shop", Name: "all", Level: mesh.LevelNamespace},
			Why: `a policy without targets is read only when it is named "default"`},
		{Origin: mesh.Origin{Kind: "MeshPolicy", Name: "all", Level: mesh.LevelMesh},
			Why: `only the MeshPolicy named "default" is read`},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A mode written with no mtls peer before it, or after one, is that of the
// first mtls peer: peers are tried in order.
func TestFirstMTLSPeerCounts(t *testing.T) {
	w := &world.World{
		Mesh: &api.MeshConfig{RootNamespace: "istio-system"},
		Policies: []*api.Policy{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "default"},
			Spec: api.PolicySpec{Peers: []api.PeerMethod{
				{HasJWT: true}, {HasMTLS: true, MTLSMode: "PERMISSIVE"}, {HasMTLS: true, MTLSMode: "STRICT"},
			}},
		}},
	}
	if got := policy.ServerMode(w, &mesh.Workload{Namespace: "shop", Name: "boards"}, 8080); got.Mode != mesh.ModePermissive {
		t.Errorf("mode %q, want PERMISSIVE", got.Mode)
	}
}
