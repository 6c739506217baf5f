package cli

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"hasp/api"
)

// TestApplyAndRestore: on a real API server an object that kubectl apply wrote
// becomes what the manifest says and nothing more, goes back to exactly what it
// was, and kubectl apply goes on with it; one that was not there goes again.
func TestApplyAndRestore(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	kubeconfig := startServer(t)
	rc, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(rc)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Chdir(dir)
	old := `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: api, namespace: default, labels: {team: a}},
  spec: {selector: {matchLabels: {app: api}}, mtls: {mode: PERMISSIVE}, portLevelMtls: {8080: {mode: DISABLE}}}}`
	if err := os.WriteFile("old.yaml", []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := oc(t, kubeconfig, "apply -f old.yaml"); out != "peerauthentication.security.istio.io/api created\n" {
		t.Fatal(out)
	}
	manifests, err := api.Decode("new.yaml", []byte(`
{apiVersion: security.istio.io/v1beta1, kind: PeerAuthentication, metadata: {name: api}, spec: {selector: {matchLabels: {app: api}}, mtls: {mode: STRICT}}}
---
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: mtls}, spec: {host: api, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := newObjects(rc, manifests, "default")
	if err != nil {
		t.Fatal(err)
	}
	s := &apiServer{client}
	state := func(o *object) *unstructured.Unstructured {
		u, err := s.get(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	before := state(objects[0])
	for _, o := range objects {
		if err := o.apply(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	applied := state(objects[0])
	spec, _ := json.Marshal(applied.Object["spec"])
	if want := `{"mtls":{"mode":"STRICT"},"selector":{"matchLabels":{"app":"api"}}}`; string(spec) != want || len(applied.GetLabels()) > 0 {
		t.Errorf("applied: %s, labels %v", spec, applied.GetLabels())
	}
	for _, o := range objects {
		if did, err := o.restore(t.Context(), s); err != nil || !did {
			t.Errorf("restore %s: %t, %v", o, did, err)
		}
	}
	if state(objects[1]) != nil {
		t.Error("a new object is still there")
	}
	after := state(objects[0])
	if diff := cmp.Diff(timeless(before), timeless(after)); diff != "" {
		t.Errorf("(-was +is)\n%s", diff)
	}
	if out := oc(t, kubeconfig, "apply -f old.yaml"); out != "peerauthentication.security.istio.io/api unchanged\n" {
		t.Errorf("kubectl apply: %s", out)
	}
	if did, err := objects[0].restore(t.Context(), s); did || err != nil {
		t.Errorf("restored twice: %t, %v", did, err)
	}
}

// timeless is an object without what counts its writes.
func timeless(u *unstructured.Unstructured) map[string]any {
	u = u.DeepCopy()
	u.SetResourceVersion("")
	u.SetGeneration(0)
	fields := u.GetManagedFields()
	for i := range fields {
		fields[i].Time = &metav1.Time{}
	}
	u.SetManagedFields(fields)
	return u.Object
}
