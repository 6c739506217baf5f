package mesh_test

import (
	"testing"

	"hasp/mesh"
)

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   mesh.Workload
		want mesh.Names
	}{
		{"a bare pod", mesh.Workload{Name: "curl"}, mesh.Names{Owner: "curl", Service: "curl", Revision: "latest"}},
		{"the lab's", mesh.Workload{Name: "boards-1-x", Owner: "boards", Labels: map[string]string{"app": "boards", "version": "1.0"}},
			mesh.Names{Owner: "boards", App: "boards", Version: "1.0", Service: "boards", Revision: "1.0"}},
		{"Kubernetes' labels before the short ones", mesh.Workload{Name: "p", Labels: map[string]string{
			"app": "a", "version": "v", "app.kubernetes.io/name": "n", "app.kubernetes.io/version": "r"}},
			mesh.Names{Owner: "p", App: "a", Version: "v", Service: "n", Revision: "r"}},
		{"Istio's before all", mesh.Workload{Name: "p", Labels: map[string]string{
			"app.kubernetes.io/name": "n", "service.istio.io/canonical-name": "c", "service.istio.io/canonical-revision": "cr"}},
			mesh.Names{Owner: "p", Service: "c", Revision: "cr"}},
	} {
		if got := tt.in.Names(); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
