package kube_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hasp/test/kube/node"
)

// restricted makes a manifest of these tests one that Kubernetes' Pod Security
// Standard "restricted" admits: no capability, no root. (OpenShift's pods are
// like that.)
var restricted = strings.NewReplacer(
	"      containers:\n", "      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}\n      containers:\n",
	"        image: test/pod\n", "        image: test/pod\n        securityContext: "+nothing+"\n",
	", image: appropriate/curl", ", image: appropriate/curl, securityContext: "+nothing,
)

const nothing = "{allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}"

// TestCNI: pods that may have no capability at all are in the mesh, captured from
// the node. It has a node of its own, whose network is another with the plugin.
func TestCNI(t *testing.T) {
	need(t)
	n, err := node.Start(t.Context(), config(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after those of its namespaces
		if t.Failed() {
			n.Diagnose(context.Background(), os.Stderr)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	install(t, n, "--set", "cni.enabled=true", "--set", "controlPlane.replicas=1", "--set", "controlPlane.podDisruptionBudget.enabled=false")
	inside := inMesh(t, n)
	must(t, n, "kubectl", "label", "namespace", inside, "pod-security.kubernetes.io/enforce=restricted")

	apply(t, n, inside, restricted.Replace(server))
	must(t, n, "kubectl", "-n", inside, "rollout", "status", "deployment/server", "--timeout=180s")
	// The first sees that the node captured, and needs no capability for that.
	want := []string{"istio-validation", "istio-proxy"}
	if got := podOf(t, n, inside, "app=server").initContainers(); !slices.Equal(got, want) {
		t.Errorf("init containers %q, want %q", got, want)
	}
	call(t, n, inside, "before")
	outside := inside + "-not"
	createNamespace(t, n, outside)
	if out, err := try(t, n, "kubectl", "-n", outside, "run", "curl", "-i", "--rm", "-q", "--restart=Never", "--image=appropriate/curl",
		"--", "-sS", "--max-time", "10", "http://server."+inside); err == nil || !strings.Contains(err.Error(), "Connection reset by peer") {
		t.Errorf("a pod outside of the mesh got %q, %v; want a reset", out, err)
	}

	// Without the agent no pod starts, but for those that a node boots with.
	agent(t, n, `{"spec":{"template":{"spec":{"nodeSelector":{"no":"node"}}}}}`)
	must(t, n, "kubectl", "-n", "istio-system", "wait", "pod", "-l", "app=hasp-cni-node", "--for=delete", "--timeout=180s")
	apply(t, n, inside, restricted.Replace(caller("meanwhile", "http://server/meanwhile")))
	eventually(t, "the pod to be refused", func() error {
		out, err := try(t, n, "kubectl", "-n", inside, "get", "events", "--field-selector=reason=FailedCreatePodSandBox")
		if err == nil && !strings.Contains(out, "hasp-cni: what to capture for pod "+inside+"/meanwhile-") {
			err = fmt.Errorf("the events are:\n%s", out)
		}
		return err
	})
	must(t, n, "kubectl", "-n", "kube-system", "run", "early", "--restart=Never", "--image=appropriate/curl", "--", "--version")
	must(t, n, "kubectl", "-n", "kube-system", "wait", "pod/early", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=180s")
	agent(t, n, `{"spec":{"template":{"spec":{"nodeSelector":{"no":null}}}}}`)
	must(t, n, "kubectl", "-n", inside, "wait", "job/meanwhile", "--for=condition=Complete", "--timeout=180s")

	// With its DaemonSet the plugin leaves the node as it was.
	must(t, n, "helm", "uninstall", "hasp", "--namespace", "istio-system", "--wait")
	files := fmt.Sprintf("/proc/%d/root", n.PID())
	eventually(t, "the plugin to leave", func() error {
		var errs []error
		if _, err := os.Stat(filepath.Join(files, "opt/cni/bin/hasp-cni")); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("its program is there: %v", err))
		}
		lists, _ := filepath.Glob(filepath.Join(files, "etc/cni/net.d/*.conflist"))
		if len(lists) == 0 {
			errs = append(errs, errors.New("the node has no network"))
		}
		for _, list := range lists {
			if b, err := os.ReadFile(list); err != nil || strings.Contains(string(b), "hasp") {
				errs = append(errs, fmt.Errorf("%s: %w\n%s", list, err, b))
			}
		}
		return errors.Join(errs...)
	})
	must(t, n, "kubectl", "-n", outside, "run", "after", "--restart=Never", "--image=appropriate/curl", "--", "--version")
	must(t, n, "kubectl", "-n", outside, "wait", "pod/after", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=180s")
}

// call the server from a Job in the mesh.
func call(t *testing.T, n *node.Node, ns, name string) {
	t.Helper()
	apply(t, n, ns, restricted.Replace(caller(name, "http://server/"+name)))
	must(t, n, "kubectl", "-n", ns, "wait", "job/"+name, "--for=condition=Complete", "--timeout=180s")
	if out := must(t, n, "kubectl", "-n", ns, "logs", "job/"+name, "-c", "curl"); out != "server at /"+name+"\n" {
		t.Errorf("it was answered %q", out)
	}
}

// agent of the node is patched: to run nowhere, or again.
func agent(t *testing.T, n *node.Node, patch string) {
	t.Helper()
	must(t, n, "kubectl", "-n", "istio-system", "patch", "daemonset/hasp-cni-node", "-p", patch)
}
