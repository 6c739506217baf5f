package source_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hasp/mesh"
	"hasp/source"
	"hasp/world"
)

// load builds a World of one manifest, in namespace shop.
func load(t *testing.T, manifest string) (*world.World, []source.Problem) {
	t.Helper()
	w, problems, err := source.FromFiles(strings.NewReader(manifest), "shop", "-")
	if err != nil {
		t.Fatal(err)
	}
	return w, problems
}

// TestRoles: who has a proxy, by every way of saying so.
func TestRoles(t *testing.T) {
	const template = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {%s}}
---
apiVersion: v1
kind: Pod
metadata: {name: p, uid: "%s", labels: {%s}, annotations: {%s}}
spec: {%scontainers: [{name: %s, image: x}]}
status: {%s}
`
	const inject = `sidecar.istio.io/inject: "%s"`
	yes, no := fmt.Sprintf(inject, "true"), fmt.Sprintf(inject, "false")
	for _, c := range []struct {
		name, uid                      string
		ns, label, annotation          string
		spec, container, status, wants string
	}{
		{name: "nothing", wants: ""},
		{name: "annotation", annotation: yes, wants: "sidecar"},
		{name: "label", label: yes, wants: "sidecar"},
		{name: "label against annotation", label: no, annotation: yes, wants: ""},
		{name: "namespace", ns: "istio-injection: enabled", wants: "sidecar"},
		{name: "namespace, pod says no", ns: "istio-injection: enabled", annotation: no, wants: ""},
		{name: "namespace disabled, pod says yes", ns: "istio-injection: disabled", annotation: yes, wants: ""},
		{name: "revision", ns: "istio.io/rev: canary", wants: "sidecar"},
		{name: "revision, injection disabled", ns: "istio.io/rev: canary, istio-injection: disabled", wants: ""},
		{name: "host network", annotation: yes, spec: "hostNetwork: true, ", wants: ""},
		{name: "nothing but a proxy", container: "istio-proxy", wants: "gateway"},
		{name: "native sidecar", spec: "initContainers: [{name: istio-proxy, image: x}], ", wants: "sidecar"},
		{name: "a proxy runs", status: "initContainerStatuses: [{name: istio-proxy}]", wants: "sidecar"},
		{name: "host network, a proxy runs", spec: "hostNetwork: true, ", status: "containerStatuses: [{name: istio-proxy}]", wants: ""},
		{name: "live: asks and was not injected", uid: "u", ns: "istio-injection: enabled", annotation: yes, wants: ""},
		{name: "live: native sidecar", uid: "u", spec: "initContainers: [{name: istio-proxy, image: x}], ", wants: "sidecar"},
		{name: "live: a proxy runs", uid: "u", status: "containerStatuses: [{name: istio-proxy}]", wants: "sidecar"},
		{name: "live: injected, not started yet", uid: "u", annotation: `sidecar.istio.io/status: '{"containers":["istio-proxy"]}'`, wants: "sidecar"},
		{name: "live: injected against its word", uid: "u", annotation: no, spec: "initContainers: [{name: istio-proxy, image: x}], ", wants: "sidecar"},
	} {
		container := c.container
		if container == "" {
			container = "app"
		}
		w, _ := load(t, fmt.Sprintf(template, c.ns, c.uid, c.label, c.annotation, c.spec, container, c.status))
		if got := string(w.Workload("shop/p").Role); got != c.wants {
			t.Errorf("%s: role %q, want %q", c.name, got, c.wants)
		}
	}
}

// TestEndpoints: who is behind a service, and on which port.
func TestEndpoints(t *testing.T) {
	w, _ := load(t, `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIPs: [10.96.0.1, "fd96::1"]
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: main}
  - {name: mongo-data, port: 27017}
  - {name: dns, port: 53, protocol: UDP}
  - {name: odd, port: 90, targetPort: nobody-has-it, appProtocol: kubernetes.io/h2c}
---
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: web}, annotations: {sidecar.istio.io/inject: "true"}}
spec: {serviceAccountName: web, containers: [{name: app, image: x, ports: [{name: main, containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: "fd77::1"}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: not-ready, labels: {app: web}}
spec: {containers: [{name: app, image: x, ports: [{name: main, containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}], conditions: [{type: Ready, status: "False"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: over, labels: {app: web}}
spec: {containers: [{name: app, image: x}]}
status: {phase: Succeeded, podIPs: [{ip: 10.0.0.3}]}
`)
	svc := w.Service("shop", "web.shop.svc.cluster.local")
	var got []string
	for _, e := range svc.Endpoints {
		got = append(got, fmt.Sprintf("%d -> %s:%d %s sidecar=%t %s", e.ServicePort, e.Addr, e.Port, e.Workload, e.Sidecar, e.Identity))
	}
	const id = "shop/a sidecar=true spiffe://cluster.local/ns/shop/sa/web"
	want := []string{
		"80 -> 10.0.0.1:8080 " + id,
		"80 -> fd77::1:8080 " + id,
		"27017 -> 10.0.0.1:27017 " + id,
		"27017 -> fd77::1:27017 " + id,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("endpoints (-want +got)\n%s", diff)
	}
	var protocols []mesh.Protocol
	for _, p := range svc.Ports {
		protocols = append(protocols, p.Protocol)
	}
	if diff := cmp.Diff([]mesh.Protocol{mesh.HTTP, mesh.Mongo, mesh.HTTP2}, protocols); diff != "" {
		t.Errorf("protocols (-want +got)\n%s", diff)
	}
	if w.Workload("shop/over") != nil {
		t.Error("a pod that has ended is still a workload")
	}
}

// TestDeploymentStandsForItsPods only while there are none.
func TestDeploymentStandsForItsPods(t *testing.T) {
	const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {sidecar.istio.io/inject: "true"}}
    spec: {containers: [{name: app, image: x}]}
`
	w, _ := load(t, deployment)
	if wl := w.Workload("shop/web"); wl == nil || wl.Role != mesh.RoleSidecar {
		t.Errorf("workloads %v, want shop/web with a sidecar", w.Workloads)
	}
	w, _ = load(t, deployment+`
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: u}]}
spec: {containers: [{name: app, image: x}]}
`)
	if w.Workload("shop/web") != nil || w.Workload("shop/web-1") == nil {
		t.Errorf("workloads %v, want shop/web-1 alone", w.Workloads)
	}
}

// TestFilesTellAllErrors with file and line, and give nothing half.
func TestFilesTellAllErrors(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.yaml": "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r}\nspec:\n  host: boards\n  trafficPolicy:\n    tls:\n      mode: MUTUAL\n",
		"b.yaml": "apiVersion: authentication.istio.io/v1alpha1\nkind: Policy\nmetadata: {name: default}\nspec:\n  peer:\n  - mtls: {}\n",
		"c.txt":  "not a manifest",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w, _, err := source.FromFiles(nil, "shop", dir)
	if w != nil || err == nil {
		t.Fatalf("a World of bad files: %v", w)
	}
	for _, want := range []string{"a.yaml:", "client certificate required for mutual tls", "private key required for mutual tls", "b.yaml:5:", `"peer"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
	if _, _, err := source.FromFiles(nil, "shop", t.TempDir()); err == nil || !strings.Contains(err.Error(), "there is no .yaml, .yml or .json file in it") {
		t.Errorf("an empty directory: %v", err)
	}
}
