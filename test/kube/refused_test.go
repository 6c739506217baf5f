package kube_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRefused: what is wrong is refused at apply, in the words of the mesh that
// runs on one machine, and nothing of it is kept.
func TestRefused(t *testing.T) {
	n := mesh(t)
	ns := namespace(t, n)
	for _, c := range []struct{ name, manifest, want string }{
		{"certificates of one's own without any", `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: wrong}
spec: {host: boards, trafficPolicy: {tls: {mode: MUTUAL}}}
`, "spec.trafficPolicy.tls.clientCertificate: Required value: client certificate required for mutual tls; name a file, or use mode ISTIO_MUTUAL for the mesh's own certificates"},
		{"a namespace's policy by another name", `
apiVersion: authentication.istio.io/v1alpha1
kind: Policy
metadata: {name: wrong}
spec: {peers: [{mtls: {mode: STRICT}}]}
`, `metadata.name: Invalid value: "wrong": authentication policy with no target rules  must be named "default", found "wrong"; rename it, or list the services it is for under spec.targets`},
		{"a mode that there is not", `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: wrong}
spec: {mtls: {mode: STRIKT}}
`, `spec.mtls.mode: Unsupported value: "STRIKT": supported values: "UNSET", "DISABLE", "PERMISSIVE", "STRICT"`},
		{"a field that there is not", `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: wrong}
spec: {host: boards, trafficPolicy: {tls: {modus: ISTIO_MUTUAL}}}
`, `unknown field "spec.trafficPolicy.tls.modus"`},
		{"an annotation of a pod that asks for a sidecar", `
apiVersion: v1
kind: Pod
metadata: {name: wrong, annotations: {sidecar.istio.io/inject: "true", traffic.sidecar.istio.io/excludeInboundPorts: eighty}}
spec: {containers: [{name: app, image: test/pod}]}
`, `admission webhook "object.sidecar-injector.istio.io" denied the request: annotation traffic.sidecar.istio.io/excludeInboundPorts: "eighty": "eighty" is not a port; write numbers from 1 to 65535, separated by commas`},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "wrong.yaml")
			if err := os.WriteFile(file, []byte(c.manifest), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := try(t, n, "kubectl", "-n", ns, "apply", "-f", file); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it says\n%v\nand not\n%s", err, c.want)
			}
			if out := must(t, n, "kubectl", "-n", ns, "get", "--ignore-not-found", "-f", file); out != "" {
				t.Errorf("it is there: %s", out)
			}
		})
	}
}
