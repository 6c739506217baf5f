package envtest_test

import (
	"fmt"
	"strings"
	"testing"
)

// pod is one that says about injection what its annotations do.
func pod(name, namespace, annotations string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, annotations: {%s}}
spec: {serviceAccountName: default, containers: [{name: app, image: app, ports: [{containerPort: 8080}]}]}
`, name, namespace, annotations)
}

const wrongRule = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bad, namespace: default}
spec: {host: ""}
`

// What the embedded API server refuses, a cluster refuses with the same words.
func TestValidation(t *testing.T) {
	need(t)
	forget(t)
	begin(t, "a", nil).ready(t).leads(t).serve(t)
	out, err := kubectl(t, wrongRule, "apply", "-f", "-")
	const want = "The DestinationRule \"bad\" is invalid: spec.host: Required value"
	if err == nil || !strings.HasPrefix(out, want) {
		t.Errorf("got %s\nwant %s", out, want)
	}
	out, err = kubectl(t, `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: quiet, namespace: default}
spec: {host: boards, trafficPolicy: {tls: {}}}
`, "apply", "-f", "-")
	const warned = "Warning: spec.trafficPolicy.tls: no mode: that means DISABLE, plaintext"
	if err != nil || !strings.HasPrefix(out, warned) {
		t.Errorf("got %s\nwant %s", out, warned)
	}
}

// Pods that ask get a sidecar, by their own word or their namespace's; who says
// nothing is left alone, and who refuses too.
func TestInjection(t *testing.T) {
	need(t)
	forget(t)
	begin(t, "a", nil).ready(t).leads(t).serve(t)
	namespace(t, "asks", map[string]string{"istio-injection": "enabled"})
	namespace(t, "silent", nil)
	for _, tt := range []struct {
		namespace, name, annotations string
		want                         string // init containers
	}{
		{"asks", "plain", "", "istio-init istio-proxy"},
		{"asks", "refuses", `sidecar.istio.io/inject: "false"`, ""},
		{"silent", "plain", "", ""},
		{"silent", "asks", `sidecar.istio.io/inject: "true"`, "istio-init istio-proxy"},
	} {
		if out, err := kubectl(t, pod(tt.name, tt.namespace, tt.annotations), "apply", "-f", "-"); err != nil {
			t.Errorf("%s/%s: %s", tt.namespace, tt.name, out)
			continue
		}
		got, err := kubectl(t, "", "get", "pod", "-n", tt.namespace, tt.name, "-o", "jsonpath={.spec.initContainers[*].name}")
		if err != nil || got != tt.want {
			t.Errorf("%s/%s has the init containers %q (%v), want %q", tt.namespace, tt.name, got, err, tt.want)
		}
	}
}

// With no control plane, a pod that asks for a sidecar does not start without
// one, a bad object does not slip in, and nobody else is kept from anything.
func TestWebhooksDown(t *testing.T) {
	need(t)
	forget(t)
	a := begin(t, "a", nil).ready(t).leads(t).serve(t)
	namespace(t, "down", map[string]string{"istio-injection": "enabled"})
	namespace(t, "open", nil)
	a.end(t)
	for _, tt := range []struct {
		what, text, refusal string
	}{
		{"a pod of a namespace that asks", pod("p", "down", ""), `failed calling webhook "namespace.sidecar-injector.istio.io"`},
		{"a pod that asks", pod("p", "open", `sidecar.istio.io/inject: "true"`), `failed calling webhook "object.sidecar-injector.istio.io"`},
		{"an object of the mesh", probe, `failed calling webhook "validation.istio.io"`},
		{"a pod that does not ask", pod("q", "open", ""), ""},
		{"a pod that refuses", pod("q", "down", `sidecar.istio.io/inject: "false"`), ""},
		// It needs no account of ours, nor a namespace of the test's.
		{"a pod of the cluster itself", strings.Replace(pod("q", "kube-system", ""), "serviceAccountName: default, ", "", 1), ""},
	} {
		out, err := kubectl(t, tt.text, "apply", "-f", "-")
		if (err != nil) != (tt.refusal != "") || !strings.Contains(out, tt.refusal) {
			t.Errorf("%s: %v %s\nwant %q", tt.what, err, out, tt.refusal)
		}
	}
}
