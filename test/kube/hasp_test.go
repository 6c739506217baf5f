package kube_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"hasp/test/kube/node"
	"hasp/test/meshtest"
)

// project is where the app is, as in the lab.
const project = "microservices-demo"

var installed struct {
	once sync.Once
	done bool
}

// mesh is the cluster with hasp on it, installed by Helm, and with the app of the
// lab as the lab begins: servers take both, auto mTLS is off. The first test that
// asks waits for it.
func mesh(t *testing.T) *node.Node {
	t.Helper()
	n := cluster(t)
	installed.once.Do(func() {
		install(t, n)
		deployApp(t, n)
		installed.done = true
	})
	if !installed.done {
		t.Fatal("hasp or the app did not come up: see the first test that asked for it")
	}
	return n
}

// install hasp with the chart, and more of Helm's arguments.
func install(t *testing.T, n *node.Node, more ...string) {
	t.Helper()
	must(t, n, "helm", append([]string{"install", "hasp", filepath.Join(meshtest.Root(), "deploy", "hasp"),
		"--namespace", "istio-system", "--create-namespace", "--wait", "--timeout", "2m",
		"--set", "meshConfig.enableAutoMtls=false", // demo/mesh.yaml says why
		"--set", "gateway.service.type=ClusterIP", // nobody gives out addresses here
		"--set", "gateway.replicas=1"}, more...)...)
}

func deployApp(t *testing.T, n *node.Node) {
	t.Helper()
	must(t, n, "kubectl", "create", "namespace", project)
	apply(t, n, project, meshPolicy(t))
	must(t, n, "kubectl", "-n", project, "apply",
		"-f", demo("volumes.yaml"), "-f", demo("app"),
		"-f", demo("istio-configuration/destinationrules-all.yaml"), "-f", demo("istio-configuration/ingress-gateway.yaml"))
	for _, d := range strings.Fields(must(t, n, "kubectl", "-n", project, "get", "deployments", "-o", "name")) {
		must(t, n, "kubectl", "-n", project, "rollout", "status", d, "--timeout=180s")
	}
	eventually(t, "the way in", func() error {
		_, err := try(t, n, "curl", "-sSf", "-o", "/dev/null", page(t, n)+"/shared")
		return err
	})
}

// demo is a file of the demo.
func demo(file string) string { return filepath.Join(meshtest.Root(), "demo", file) }

// meshPolicy of demo/mesh.yaml; its mesh settings are given to Helm, whose they
// are.
func meshPolicy(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(demo("mesh.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range strings.Split(string(b), "\n---\n") {
		if strings.Contains(doc, "\nkind: MeshPolicy\n") {
			return doc
		}
	}
	t.Fatal("demo/mesh.yaml has no MeshPolicy")
	return ""
}

// page is the gateway's address, as a pod or the node reaches it.
func page(t *testing.T, n *node.Node) string {
	t.Helper()
	return "http://" + must(t, n, "kubectl", "-n", "istio-system", "get", "service", "istio-ingressgateway", "-o", "jsonpath={.spec.clusterIP}")
}

// change does something to the mesh and waits until every proxy of every replica
// of the control plane has it.
func change(t *testing.T, n *node.Node, do func()) {
	t.Helper()
	before := replicas(t, n)
	do()
	eventually(t, "every proxy has the change", func() error {
		now, err := tryReplicas(t, n)
		if err != nil {
			return err
		}
		for pod, was := range before {
			is, ok := now[pod]
			if !ok {
				return fmt.Errorf("%s is gone", pod)
			}
			if is.generation <= was.generation || is.behind > 0 {
				return fmt.Errorf("%s: generation %d after %d, %d proxies behind", pod, is.generation, was.generation, is.behind)
			}
		}
		return nil
	})
}

// replica of the control plane, as its metrics tell.
type replica struct{ generation, behind int }

func replicas(t *testing.T, n *node.Node) map[string]replica {
	t.Helper()
	r, err := tryReplicas(t, n)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tryReplicas(t *testing.T, n *node.Node) (map[string]replica, error) {
	t.Helper()
	pods, err := try(t, n, "kubectl", "-n", "istio-system", "get", "pods", "-l", "app=istiod",
		"--field-selector=status.phase=Running", "-o", "jsonpath={.items[*].metadata.name}")
	if err != nil {
		return nil, err
	}
	out := map[string]replica{}
	for _, pod := range strings.Fields(pods) {
		text, err := try(t, n, "kubectl", "get", "--raw", "/api/v1/namespaces/istio-system/pods/"+pod+":15014/proxy/metrics")
		if err != nil {
			return nil, err
		}
		generation, err := metric(text, "hasp_generation")
		behind, err2 := metric(text, `hasp_proxies{state="behind"}`)
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("%s: %w", pod, err)
		}
		out[pod] = replica{generation, behind}
	}
	if len(out) == 0 {
		return nil, errors.New("no control plane runs")
	}
	return out, nil
}

// metric of an exposition in text.
func metric(text, name string) (int, error) {
	for line := range bytes.Lines([]byte(text)) {
		if value, ok := strings.CutPrefix(string(line), name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return int(v), err
		}
	}
	return 0, fmt.Errorf("there is no %s", name)
}
