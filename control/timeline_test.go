package control

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingapi "istio.io/api/networking/v1alpha3"
	securityapi "istio.io/api/security/v1beta1"
	typeapi "istio.io/api/type/v1beta1"
	networking "istio.io/client-go/pkg/apis/networking/v1"
	security "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hasp/api"
	"hasp/mesh"
	"hasp/source"
	"hasp/truth"
)

var dawn = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)

func written(name string, generation int64, mode securityapi.PeerAuthentication_MutualTLS_Mode, at time.Time) *security.PeerAuthentication {
	wrote := metav1.NewTime(at)
	pa := &security.PeerAuthentication{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: name, UID: types.UID(name), Generation: generation, CreationTimestamp: metav1.NewTime(dawn),
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl", Time: &wrote}},
	}}
	pa.Spec.Mtls = &securityapi.PeerAuthentication_MutualTLS{Mode: mode}
	return pa
}

func of(list ...*security.PeerAuthentication) *source.Objects {
	return &source.Objects{PeerAuthentications: list}
}

func TestTimeline(t *testing.T) {
	const (
		permissive = securityapi.PeerAuthentication_MutualTLS_PERMISSIVE
		strict     = securityapi.PeerAuthentication_MutualTLS_STRICT
	)
	var l timeline
	at := func(m int) time.Time { return dawn.Add(time.Duration(m) * time.Minute) }
	object := func(name string) mesh.Origin {
		return mesh.Origin{Kind: "PeerAuthentication", Namespace: "shop", Name: name}
	}
	// What is there at the start has its own dates.
	l.compare(of(written("a", 1, permissive, dawn), written("b", 2, strict, at(1))), 1, at(10))
	l.enforced(1, at(10))
	l.compare(of(written("a", 2, strict, at(11)), written("b", 2, strict, at(1)), written("c", 1, strict, at(11))), 2, at(11))
	l.enforced(2, at(12))
	if l.compare(of(written("a", 2, strict, at(11)), written("b", 2, strict, at(1)), written("c", 1, strict, at(11))), 3, at(13)) {
		t.Error("nothing differs, and it says that something does")
	}
	l.compare(of(written("a", 2, strict, at(11)), written("c", 1, strict, at(11))), 4, at(14))
	want := []truth.Change{
		{At: at(14), Generation: 4, Object: object("b"), Verb: "deleted"},
		{At: at(11), Generation: 2, Object: object("c"), Verb: "created", Who: "kubectl", What: "mtls.mode STRICT", Enforced: at(12)},
		{At: at(11), Generation: 2, Object: object("a"), Verb: "changed", Who: "kubectl", What: "mtls.mode STRICT", Enforced: at(12)},
		{At: at(1), Object: object("b"), Verb: "changed", Who: "kubectl", What: "mtls.mode STRICT"},
		{At: at(0), Object: object("a"), Verb: "created", Who: "kubectl", What: "mtls.mode PERMISSIVE"},
	}
	if diff := cmp.Diff(want, l.newest()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestTimelineIsBounded(t *testing.T) {
	var l timeline
	many := func(n int, generation int64) *source.Objects {
		o := &source.Objects{}
		for i := range n {
			o.PeerAuthentications = append(o.PeerAuthentications, written(fmt.Sprint(i), generation, 0, dawn.Add(time.Duration(i)*time.Second)))
		}
		return o
	}
	l.compare(many(1000, 1), 1, dawn)
	if got := l.newest(); len(got) != maxSeeds || got[0].Object.Name != "999" {
		t.Errorf("at the start: %d, the newest is %s", len(got), got[0].Object)
	}
	for g := range uint64(5) {
		l.compare(many(1000, int64(g)+2), g+2, dawn.Add(time.Hour))
	}
	if got := len(l.newest()); got != maxChanges {
		t.Errorf("%d changes are kept, want %d", got, maxChanges)
	}
}

func TestSays(t *testing.T) {
	dr := &networking.DestinationRule{}
	dr.Spec.Host = "boards"
	dr.Spec.TrafficPolicy = &networkingapi.TrafficPolicy{Tls: &networkingapi.ClientTLSSettings{Mode: networkingapi.ClientTLSSettings_ISTIO_MUTUAL}}
	dr.Spec.Subsets = []*networkingapi.Subset{{Name: "v1", Labels: map[string]string{"version": "v1"}}}
	pa := &security.PeerAuthentication{}
	pa.Spec.Selector = &typeapi.WorkloadSelector{MatchLabels: map[string]string{"app": "boards"}}
	pa.Spec.Mtls = &securityapi.PeerAuthentication_MutualTLS{Mode: securityapi.PeerAuthentication_MutualTLS_STRICT}
	long := &networking.DestinationRule{}
	for range 100 {
		long.Spec.ExportTo = append(long.Spec.ExportTo, "über")
	}
	for _, c := range []struct {
		m    metav1.Object
		want string
	}{
		{dr, "host boards, subsets.labels.version v1, subsets.name v1, tls.mode ISTIO_MUTUAL"},
		{pa, "mtls.mode STRICT, selector.app boards"},
		{&security.PeerAuthentication{}, ""},
		{&api.Policy{Spec: api.PolicySpec{Peers: []api.PeerMethod{{HasMTLS: true, MTLSMode: "STRICT"}}}}, "peers.mtls.mode STRICT"},
		{&corev1.ConfigMap{Data: map[string]string{api.MeshConfigKey: "enableAutoMtls: false\ntrustDomain: shop.test"}}, "enableAutoMtls false, trustDomain shop.test"},
		{&corev1.ConfigMap{Data: map[string]string{api.MeshConfigKey: "{"}}, "mesh {"},
		{long, "exportTo " + strings.Repeat("über ", 21) + "übe..."},
	} {
		if got := says(c.m); got != c.want {
			t.Errorf("%T: %q, want %q", c.m, got, c.want)
		}
	}
}
