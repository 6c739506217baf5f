package source_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hasp/source"
)

const town = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {kubernetes.io/metadata.name: shop}}
---
apiVersion: v1
kind: Service
metadata: {name: boards, namespace: shop}
spec: {clusterIP: 10.96.0.3, clusterIPs: [10.96.0.3], type: ClusterIP, selector: {app: boards}, ports: [{name: http, port: 8080, protocol: TCP, targetPort: 80}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: PERMISSIVE}}
`

// applied is what becomes of manifests over a town of 2020.
func applied(t *testing.T, manifests string, remove bool) (*source.Objects, []string, error) {
	t.Helper()
	base := &source.Objects{}
	before, err := source.ReadCandidate(strings.NewReader(town), "town.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if base, _, err = base.Apply(before, "", false, time.Date(2020, 1, 1, 0, 0, 0, 5, time.UTC)); err != nil {
		t.Fatal(err)
	}
	was, _ := source.Build(base, "")
	objects, err := source.ReadCandidate(strings.NewReader(manifests), "new.yaml")
	if err != nil {
		return nil, nil, err
	}
	after, said, err := base.Apply(objects, "shop", remove, time.Date(2021, 1, 1, 0, 0, 0, 5, time.UTC))
	var words []string
	for _, s := range said {
		words = append(words, s.String())
	}
	if is, _ := source.Build(base, ""); !is.Equal(was) {
		t.Error("the cluster's objects were changed")
	}
	return after, words, err
}

func TestApplyCandidate(t *testing.T) {
	for name, c := range map[string]struct {
		manifests string
		remove    bool
		want      []string
	}{
		"as it is": {strings.ReplaceAll(town, "clusterIP: 10.96.0.3, clusterIPs: [10.96.0.3], type: ClusterIP, ", ""), false,
			[]string{"Namespace /shop unchanged", "Service shop/boards unchanged", "PeerAuthentication shop/default unchanged"}},
		"another mode": {"{apiVersion: security.istio.io/v1beta1, kind: PeerAuthentication, metadata: {name: default}, spec: {mtls: {mode: STRICT}}}", false,
			[]string{"PeerAuthentication shop/default changed"}},
		"elsewhere": {"{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default, namespace: bank}, spec: {mtls: {mode: STRICT}}}", false,
			[]string{"PeerAuthentication bank/default created"}},
		"another port": {"{apiVersion: v1, kind: Service, metadata: {name: boards}, spec: {selector: {app: boards}, ports: [{name: http, port: 8081}]}}", false,
			[]string{"Service shop/boards changed"}},
		"cluster-scoped": {"{apiVersion: authentication.istio.io/v1alpha1, kind: MeshPolicy, metadata: {name: default, namespace: shop}, spec: {peers: [{mtls: {}}]}}", false,
			[]string{"MeshPolicy /default created"}},
		"what is not measured": {"{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: b}]}}}}\n---\n{apiVersion: batch/v1, kind: Job, metadata: {name: once}}", false,
			[]string{"Deployment shop/web " + source.NotMeasured, "Job shop/once " + source.NotRead}},
		"deleted": {town, true,
			[]string{"Namespace /shop deleted", "Service shop/boards deleted", "PeerAuthentication shop/default deleted"}},
		"deleted, not there": {"{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: other}}", true,
			[]string{"PeerAuthentication shop/other " + source.NotThere}},
	} {
		t.Run(name, func(t *testing.T) {
			_, words, err := applied(t, c.manifests, c.remove)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, words); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A new object is the youngest, a changed one stays as old as it is, and a
// Service keeps its address.
func TestCandidateKeepsWhatTheServerKeeps(t *testing.T) {
	o, _, err := applied(t, `
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default}, spec: {mtls: {mode: STRICT}}}
---
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: another}, spec: {mtls: {mode: STRICT}}}
---
{apiVersion: v1, kind: Service, metadata: {name: boards}, spec: {selector: {app: boards}, ports: [{name: http, port: 8081}]}}
`, false)
	if err != nil {
		t.Fatal(err)
	}
	ages := map[string]int{}
	for _, p := range o.PeerAuthentications {
		ages[p.Name] = p.CreationTimestamp.Year()
	}
	if diff := cmp.Diff(map[string]int{"default": 2020, "another": 2021}, ages); diff != "" {
		t.Error(diff)
	}
	if ip := o.Services[0].Spec.ClusterIP; ip != "10.96.0.3" || o.Services[0].Spec.Ports[0].Port != 8081 {
		t.Errorf("the service is at %q, %v", ip, o.Services[0].Spec.Ports)
	}
}

func TestCandidateTellsAllErrors(t *testing.T) {
	for manifests, want := range map[string][]string{
		"":                               {"new.yaml: there is no object in it"},
		"apiVersion: v1\nkind: Servic\n": {"new.yaml:2: ", `did you mean "Service"`},
		`apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec:
  portLevelMtls: {80: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a}
spec:
  rules: [{from: [{source: {ipBlocks: [nowhere]}}]}]
`: {"new.yaml:5: PeerAuthentication default: ", "new.yaml:11: AuthorizationPolicy a: "},
		`apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
---
apiVersion: security.istio.io/v1beta1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
---
apiVersion: security.istio.io/v1beta1
kind: PeerAuthentication
metadata: {name: default, namespace: bank}
`: {"new.yaml:5: PeerAuthentication shop/default: it is already at new.yaml:1; keep one of the two"},
	} {
		_, _, err := applied(t, manifests, false)
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("got %v, want %q", err, w)
			}
		}
	}
}
