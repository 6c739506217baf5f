package kube_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"hasp/test/kube/node"
)

// inMesh is a namespace whose pods all get a sidecar, and whose servers take
// mutual TLS alone.
func inMesh(t *testing.T, n *node.Node) string {
	t.Helper()
	ns := namespace(t, n)
	must(t, n, "kubectl", "label", "namespace", ns, "istio-injection=enabled")
	change(t, n, func() {
		apply(t, n, ns, `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: all}
spec: {host: "*.`+ns+`.svc.cluster.local", trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
`)
	})
	return ns
}

// caller is a Job of one curl to a URL.
func caller(name, url string) string { return callerAs("default", name, url) }

// callerAs is a caller with a ServiceAccount.
func callerAs(account, name, url string) string {
	return fmt.Sprintf(`
apiVersion: batch/v1
kind: Job
metadata: {name: %s}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      serviceAccountName: %s
      containers:
      - {name: curl, image: appropriate/curl, args: [-sSf, --max-time, "10", %s]}
`, name, account, url)
}

// TestJob: a Job in the mesh is done when its own container is.
func TestJob(t *testing.T) {
	n := mesh(t)
	ns := inMesh(t, n)
	apply(t, n, ns, server)
	must(t, n, "kubectl", "-n", ns, "rollout", "status", "deployment/server", "--timeout=180s")
	apply(t, n, ns, caller("inside", "http://server/job"))
	must(t, n, "kubectl", "-n", ns, "wait", "job/inside", "--for=condition=Complete", "--timeout=180s")
	if out := must(t, n, "kubectl", "-n", ns, "logs", "job/inside", "-c", "curl"); out != "server at /job\n" {
		t.Errorf("it was answered %q", out)
	}
	pod := podOf(t, n, ns, "job-name=inside")
	for _, c := range pod.Status.InitContainerStatuses {
		if c.State.Terminated == nil {
			t.Errorf("container %s of a pod that is done still runs", c.Name)
		}
	}
}

// TestStatefulSet: its pods are called by their own names, through mutual TLS.
func TestStatefulSet(t *testing.T) {
	n := mesh(t)
	ns := inMesh(t, n)
	apply(t, n, ns, `
apiVersion: v1
kind: Service
metadata: {name: members}
spec: {clusterIP: None, selector: {app: members}, ports: [{name: http, port: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: member}
spec:
  serviceName: members
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: members}}
  template:
    metadata: {labels: {app: members}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: member
        image: test/pod
        args: [serve, ":8080"]
        env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1}
`)
	must(t, n, "kubectl", "-n", ns, "rollout", "status", "statefulset/member", "--timeout=180s")
	for _, member := range []string{"member-0", "member-1"} {
		apply(t, n, ns, caller("to-"+member, "http://"+member+".members:8080/here"))
		must(t, n, "kubectl", "-n", ns, "wait", "job/to-"+member, "--for=condition=Complete", "--timeout=180s")
		if out := must(t, n, "kubectl", "-n", ns, "logs", "job/to-"+member, "-c", "curl"); out != member+" at /here\n" {
			t.Errorf("%s.members answered %q", member, out)
		}
	}
}

// TestOutside: a namespace outside of the mesh gets no sidecars, its pods are
// refused by servers that take mutual TLS alone, and serve as ever.
func TestOutside(t *testing.T) {
	n := mesh(t)
	inside := inMesh(t, n)
	apply(t, n, inside, server)
	must(t, n, "kubectl", "-n", inside, "rollout", "status", "deployment/server", "--timeout=180s")
	outside := inside + "-not"
	createNamespace(t, n, outside)
	apply(t, n, outside, server)
	must(t, n, "kubectl", "-n", outside, "rollout", "status", "deployment/server", "--timeout=180s")
	if names := podOf(t, n, outside, "app=server").initContainers(); len(names) > 0 {
		t.Errorf("a pod outside of the mesh has %q", names)
	}
	out, err := try(t, n, "kubectl", "-n", outside, "run", "curl", "-i", "--rm", "-q", "--restart=Never", "--image=appropriate/curl",
		"--", "-sS", "--max-time", "10", "http://server."+inside)
	if err == nil || !strings.Contains(err.Error(), "Connection reset by peer") {
		t.Errorf("from outside: %q, %v; want a reset", out, err)
	}
	apply(t, n, inside, caller("out", "http://server."+outside+"/from-inside"))
	must(t, n, "kubectl", "-n", inside, "wait", "job/out", "--for=condition=Complete", "--timeout=180s")
	if out := must(t, n, "kubectl", "-n", inside, "logs", "job/out", "-c", "curl"); out != "server at /from-inside\n" {
		t.Errorf("the mesh asked outside, and was answered %q", out)
	}
}

// pod is what a test asks of one.
type pod struct {
	Metadata struct{ Name string }
	Spec     struct{ InitContainers []struct{ Name string } }
	Status   struct {
		PodIP                 string
		InitContainerStatuses []struct {
			Name  string
			State struct{ Terminated *struct{} }
		}
	}
}

func (p pod) initContainers() (names []string) {
	for _, c := range p.Spec.InitContainers {
		names = append(names, c.Name)
	}
	return names
}

// podNamed is one pod.
func podNamed(t *testing.T, n *node.Node, ns, name string) (p pod) {
	t.Helper()
	if err := json.Unmarshal([]byte(must(t, n, "kubectl", "-n", ns, "get", "pod", name, "-o", "json")), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// podOf a selector, the first of them.
func podOf(t *testing.T, n *node.Node, ns, selector string) pod {
	t.Helper()
	var list struct{ Items []pod }
	if err := json.Unmarshal([]byte(must(t, n, "kubectl", "-n", ns, "get", "pods", "-l", selector, "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) == 0 {
		t.Fatalf("namespace %s has no pod with %s", ns, selector)
	}
	return list.Items[0]
}
