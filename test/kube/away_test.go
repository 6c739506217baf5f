package kube_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hasp/test/kube/node"
)

// loaded is a namespace in the mesh with a server of two replicas, which end as
// pods of a careful owner do: they serve on until everybody knows.
func loaded(t *testing.T, n *node.Node) (ns string) {
	t.Helper()
	ns = inMesh(t, n)
	apply(t, n, ns, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  replicas: 2
  selector: {matchLabels: {app: server}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: server}}
    spec:
      terminationGracePeriodSeconds: 15
      containers:
      - name: server
        image: test/load
        args: [serve]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 3}}}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {selector: {app: server}, ports: [{name: http, port: 8080}]}
`)
	must(t, n, "kubectl", "-n", ns, "rollout", "status", "deployment/server", "--timeout=180s")
	return ns
}

// under load, do something; not one request of it may be lost. Each has a
// connection of its own, so that each is a handshake, a decision and a choice.
func under(t *testing.T, n *node.Node, ns string, do func()) {
	t.Helper()
	apply(t, n, ns, `
apiVersion: batch/v1
kind: Job
metadata: {name: load}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: load, image: test/load, args: [run, -to, "server:8080", -rate, "40", -fresh, "1", -for, 10m]}
`)
	must(t, n, "kubectl", "-n", ns, "wait", "pod", "-l=job-name=load", "--for=condition=Ready", "--timeout=180s")
	begin := time.Now()
	do()
	took := time.Since(begin)
	// It may be gone before who told it to is: a container ends with its first
	// process.
	if _, err := try(t, n, "kubectl", "-n", ns, "exec", "job/load", "-c", "load", "--", "/load", "stop"); err != nil && !strings.Contains(err.Error(), "exit status 137") {
		t.Fatal(err)
	}
	must(t, n, "kubectl", "-n", ns, "wait", "job/load", "--for=condition=Complete", "--timeout=180s")
	out := must(t, n, "kubectl", "-n", ns, "logs", "job/load", "-c", "load")
	var r struct {
		Sent, Failed int
		Errors       map[string]int
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("the load says %q: %v", out, err)
	}
	t.Logf("%s %s", took.Round(time.Second), strings.TrimSpace(out))
	if r.Failed > 0 {
		t.Errorf("of %d requests %d were lost: %v", r.Sent, r.Failed, r.Errors)
	}
	if r.Sent < 20*int(took.Seconds()) {
		t.Errorf("only %d requests were sent in %s: that was no load", r.Sent, took)
	}
	must(t, n, "kubectl", "-n", ns, "delete", "job", "load")
}

// TestRollout: pods of the app and of the control plane are replaced, evicted and
// killed, the kubelet crashes, and the mesh loses no request.
func TestRollout(t *testing.T) {
	n := mesh(t)
	ns := loaded(t, n)
	t.Run("of the app", func(t *testing.T) {
		under(t, n, ns, func() {
			must(t, n, "kubectl", "-n", ns, "rollout", "restart", "deployment/server")
			must(t, n, "kubectl", "-n", ns, "rollout", "status", "deployment/server", "--timeout=180s")
		})
	})
	t.Run("eviction", func(t *testing.T) {
		under(t, n, ns, func() {
			name := podOf(t, n, ns, "app=server").Metadata.Name
			evict(t, n, ns, name)
			must(t, n, "kubectl", "-n", ns, "wait", "pod/"+name, "--for=delete", "--timeout=180s")
			must(t, n, "kubectl", "-n", ns, "rollout", "status", "deployment/server", "--timeout=180s")
		})
	})
	t.Run("of the control plane", func(t *testing.T) {
		under(t, n, ns, func() {
			must(t, n, "kubectl", "-n", "istio-system", "rollout", "restart", "deployment/istiod")
			must(t, n, "kubectl", "-n", "istio-system", "rollout", "status", "deployment/istiod", "--timeout=180s")
		})
	})
	t.Run("crash of the kubelet", func(t *testing.T) {
		under(t, n, ns, func() {
			if err := n.RestartKubelet(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	})
}

// evict as a drain does.
func evict(t *testing.T, n *node.Node, ns, name string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "eviction.json")
	eviction := fmt.Sprintf(`{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": %q, "namespace": %q}}`, name, ns)
	if err := os.WriteFile(file, []byte(eviction), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, n, "kubectl", "create", "--raw", "/api/v1/namespaces/"+ns+"/pods/"+name+"/eviction", "-f", file)
}

// TestControlPlaneAway: while no control plane is there, what runs goes on, and
// nothing starts outside of the mesh that asks to be in it, nor is a policy taken
// that nobody has read.
func TestControlPlaneAway(t *testing.T) {
	n := mesh(t)
	ns := loaded(t, n)
	outside := ns + "-not"
	createNamespace(t, n, outside)
	under(t, n, ns, func() {
		for _, pod := range strings.Fields(must(t, n, "kubectl", "-n", "istio-system", "get", "pods", "-l", "app=istiod", "-o", "name")) {
			must(t, n, "kubectl", "-n", "istio-system", "delete", pod, "--grace-period=0", "--force")
		}
		must(t, n, "kubectl", "-n", "istio-system", "scale", "deployment/istiod", "--replicas=0")
		defer func() { // also when something fails on the way
			must(t, n, "kubectl", "-n", "istio-system", "scale", "deployment/istiod", "--replicas=2")
			must(t, n, "kubectl", "-n", "istio-system", "rollout", "status", "deployment/istiod", "--timeout=180s")
		}()
		eventually(t, "the webhook to be away", func() error {
			_, err := try(t, n, "kubectl", "-n", ns, "run", "early", "--image=test/pod", "--restart=Never", "--dry-run=server")
			if err == nil {
				return fmt.Errorf("a pod was let in")
			}
			if want := `failed calling webhook "namespace.sidecar-injector.istio.io"`; !strings.Contains(err.Error(), want) {
				return fmt.Errorf("no %q in %w", want, err)
			}
			return nil
		})
		must(t, n, "kubectl", "-n", outside, "run", "free", "--image=test/pod", "--restart=Never", "--", "serve", ":8080")
		must(t, n, "kubectl", "-n", outside, "wait", "pod/free", "--for=condition=Ready", "--timeout=180s")
		_, err := try(t, n, "kubectl", "-n", ns, "delete", "peerauthentication", "default", "--dry-run=server")
		if err != nil {
			t.Errorf("a policy cannot be deleted: %v", err)
		}
		_, err = try(t, n, "kubectl", "-n", ns, "annotate", "peerauthentication", "default", "changed=yes")
		if err == nil || !strings.Contains(err.Error(), `failed calling webhook "validation.istio.io"`) {
			t.Errorf("a policy that nobody read was changed: %v", err)
		}
	})
	apply(t, n, ns, caller("after", "http://server:8080/after"))
	must(t, n, "kubectl", "-n", ns, "wait", "job/after", "--for=condition=Complete", "--timeout=180s")
}
