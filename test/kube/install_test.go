package kube_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"hasp/test/kube/node"
	"hasp/test/meshtest"
)

// TestInstall takes hasp to a cluster of its own and away again, by its command
// and by Helm, and each time the cluster is afterwards what it was before.
func TestInstall(t *testing.T) {
	need(t)
	n, err := node.Start(t.Context(), config(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	before := inventory(t, n)

	t.Run("hasp", func(t *testing.T) { byHasp(t, n) })
	unchanged(t, n, before)
	t.Run("helm", func(t *testing.T) { byHelm(t, n) })
	unchanged(t, n, before)
}

// cheap values: nobody gives out addresses here, and two cores are not many.
var cheap = []string{"--set", "gateway.service.type=ClusterIP", "--set", "gateway.replicas=1"}

func hasp(t *testing.T, n *node.Node, args ...string) (string, error) {
	t.Helper()
	return try(t, n, filepath.Join(meshtest.Root(), "bin", "hasp"), args...)
}

// says runs hasp, which must succeed (or fail) and print what is wanted.
func says(t *testing.T, n *node.Node, succeeds bool, args []string, want ...string) {
	t.Helper()
	out, err := hasp(t, n, args...)
	if err != nil {
		out = err.Error()
	}
	if (err == nil) != succeeds {
		t.Fatalf("hasp %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("hasp %s: no %q in\n%s", strings.Join(args, " "), w, out)
		}
	}
}

func byHasp(t *testing.T, n *node.Node) {
	with := func(args ...string) []string { return append(args, cheap...) }
	says(t, n, true, with("check"), "√ you may create what hasp installs", "√ the API server takes every object", "0 failed")
	says(t, n, true, with("install", "--dry-run"), "dry run", "deployments.apps istio-system/istiod created")
	says(t, n, true, with("install"), "namespaces istio-system created", "hasp 0.1.0 runs.")
	says(t, n, true, with("check", "--wait", "30s"),
		"√ all replicas are ready: 2 of 2",
		"√ the API server reaches the webhook that checks objects",
		"√ a pod that asks for a sidecar gets one: tried in namespace default",
		"√ sidecars and gateways are connected and took their configuration: 1 proxies", "0 failed")
	says(t, n, true, []string{"status", "--kubeconfig", kubeconfig(t, n)},
		"Secret istio-system/istio-ca-secret signs", "istio-system/istio-ingressgateway-", "up to date")

	out := must(t, n, filepath.Join(meshtest.Root(), "bin", "hasp"), with("install")...)
	if strings.Contains(out, " created") || strings.Contains(out, " configured") || strings.Contains(out, " deleted") {
		t.Errorf("a second installation is no change of nothing:\n%s", out)
	}
	// The gateway goes, and pods need no capability any more.
	says(t, n, true, []string{"install", "--set", "gateway.enabled=false", "--set", "cni.enabled=true"},
		"daemonsets.apps istio-system/hasp-cni-node created",
		"deployments.apps istio-system/istio-ingressgateway deleted", "services istio-system/istio-ingressgateway deleted")
	must(t, n, "kubectl", "create", "namespace", "strict")
	must(t, n, "kubectl", "label", "namespace", "strict", "istio-injection=enabled", "pod-security.kubernetes.io/enforce=restricted")
	apply(t, n, "strict", modest)
	must(t, n, "kubectl", "-n", "strict", "wait", "--for=condition=Ready", "pod/web", "--timeout=180s")
	says(t, n, true, []string{"check", "--wait", "30s"}, "√ the CNI plugin runs on every node: 1 of 1",
		"√ a pod that asks for a sidecar gets one: tried in namespace strict", "√ every pod that asks has its sidecar: 1 pods", "0 failed")
	if _, err := try(t, n, "helm", "install", "hasp", chart(), "--namespace", "istio-system", "--set", "crds.install=false"); err == nil ||
		!strings.Contains(err.Error(), "invalid ownership metadata") {
		t.Errorf("helm takes over what hasp installed: %v", err)
	}

	// A policy and a key of the user's stay, and are named.
	apply(t, n, "default", "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: mine}\nspec: {mtls: {mode: STRICT}}\n")
	must(t, n, "kubectl", "-n", "istio-system", "create", "secret", "generic", "cacerts", "--from-literal=ca-key.pem=mine")
	says(t, n, true, []string{"uninstall"},
		"peerauthentications.security.istio.io, of which there are PeerAuthentication default/mine; --purge deletes them with it",
		"namespace istio-system, in which there are secrets istio-system/cacerts",
		"Pods with a sidecar that no control plane serves any more; restart what made them:\n  strict/web")
	must(t, n, "kubectl", "delete", "namespace", "strict")
	must(t, n, "kubectl", "-n", "default", "get", "peerauthentication", "mine")
	must(t, n, "kubectl", "-n", "istio-system", "delete", "secret", "cacerts")
	says(t, n, true, []string{"uninstall", "--purge"}, "namespaces istio-system deleted")
}

// modest is a pod that Pod Security's restricted admits.
const modest = `
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 2
  securityContext: {runAsNonRoot: true, runAsUser: 2000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: app
    image: test/pod
    args: [serve, ":8080"]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
`

func byHelm(t *testing.T, n *node.Node) {
	sameManifest(t, n)
	helm := append([]string{"install", "hasp", chart(), "--namespace", "istio-system", "--create-namespace", "--wait", "--timeout", "2m", "--set", "cni.enabled=true"}, cheap...)
	must(t, n, "helm", helm...)
	says(t, n, false, []string{"install"}, "hasp 0.1.0 was installed by Helm as release hasp: use helm upgrade or helm uninstall hasp -n istio-system")
	says(t, n, false, []string{"uninstall"}, "was installed by Helm")
	says(t, n, true, []string{"check", "--wait", "30s"}, "0 failed")

	// An upgrade leaves the caBundle, which is the control plane's, alone.
	bundle := func() string {
		return must(t, n, "kubectl", "get", "mutatingwebhookconfiguration", "istio-sidecar-injector", "-o", "jsonpath={.webhooks[*].clientConfig.caBundle}")
	}
	trusted := bundle()
	must(t, n, "helm", append([]string{"upgrade", "hasp", chart(), "--namespace", "istio-system", "--set", "injection.timeoutSeconds=9,cni.enabled=true"}, cheap...)...)
	if bundle() != trusted || trusted == "" {
		t.Error("helm upgrade took the caBundle away")
	}

	must(t, n, "helm", "uninstall", "hasp", "--namespace", "istio-system", "--wait")
	must(t, n, "kubectl", "get", "crd", "peerauthentications.security.istio.io") // crds.keep
	says(t, n, true, []string{"uninstall"}, "secrets istio-system/istio-ca-secret deleted", "customresourcedefinitions.apiextensions.k8s.io peerauthentications.security.istio.io deleted")
	must(t, n, "kubectl", "delete", "namespace", "istio-system")
}

// chart is the directory of it.
func chart() string { return filepath.Join(meshtest.Root(), "deploy", "hasp") }

// kubeconfig of the node, by its name.
func kubeconfig(t *testing.T, n *node.Node) string {
	t.Helper()
	return strings.TrimSpace(must(t, n, "sh", "-c", "echo $KUBECONFIG"))
}

// sameManifest: hasp manifest is helm template, but for the namespace, which
// Helm makes by itself, and for who manages it.
func sameManifest(t *testing.T, n *node.Node) {
	t.Helper()
	for _, values := range [][]string{nil, {"-f", filepath.Join(chart(), "values-openshift.yaml")}, {"--set", "meshConfig.trustDomain=example.org,ca.address=ca.example.org:443"}} {
		ours := objects(t, must(t, n, filepath.Join(meshtest.Root(), "bin", "hasp"), append([]string{"manifest"}, values...)...))
		theirs := objects(t, must(t, n, "helm", append([]string{"template", "hasp", chart(), "--namespace", "istio-system"}, values...)...))
		delete(ours, "Namespace /istio-system")
		for name, text := range theirs {
			if ours[name] != text {
				t.Errorf("%v: %s: helm template has\n%s\nand hasp manifest\n%s", values, name, text, ours[name])
			}
			delete(ours, name)
		}
		for name := range ours {
			t.Errorf("%v: helm template has no %s", values, name)
		}
	}
}

func objects(t *testing.T, manifest string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for doc := range strings.SplitSeq("\n"+manifest, "\n---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &u.Object); err != nil {
			t.Fatal(err)
		}
		if len(u.Object) == 0 {
			continue
		}
		text, err := yaml.Marshal(u.Object)
		if err != nil {
			t.Fatal(err)
		}
		out[u.GetKind()+" "+u.GetNamespace()+"/"+u.GetName()] = strings.ReplaceAll(string(text), "managed-by: Helm", "managed-by: hasp")
	}
	return out
}

// inventory is every object of the cluster, but for those that come and go by
// themselves, and the node's network configuration.
func inventory(t *testing.T, n *node.Node) []string {
	t.Helper()
	kinds := strings.Fields(must(t, n, "kubectl", "api-resources", "--verbs=list", "-o", "name"))
	kinds = slices.DeleteFunc(kinds, func(k string) bool { return strings.HasPrefix(k, "events") || k == "componentstatuses" })
	out := must(t, n, "kubectl", "get", strings.Join(kinds, ","), "-A", "-o", `jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{"\n"}{end}`)
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/root/etc/cni/net.d/*", n.PID()))
	if err != nil || len(files) == 0 {
		t.Fatalf("the node has no network configuration: %v", err)
	}
	list := slices.DeleteFunc(strings.Split(strings.TrimSpace(out), "\n"), func(o string) bool { return strings.HasPrefix(o, "Lease kube-") })
	for _, f := range files {
		var conf any // to have one way of writing it
		b, err := os.ReadFile(f)
		if err == nil {
			err = json.Unmarshal(b, &conf)
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("File %s: %v", filepath.Base(f), conf))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func unchanged(t *testing.T, n *node.Node, before []string) {
	t.Helper()
	eventually(t, "the cluster is as it was", func() error {
		var errs []error
		now := inventory(t, n)
		for _, o := range now {
			if !slices.Contains(before, o) {
				errs = append(errs, fmt.Errorf("%s is left", o))
			}
		}
		for _, o := range before {
			if !slices.Contains(now, o) {
				errs = append(errs, fmt.Errorf("%s is gone", o))
			}
		}
		return errors.Join(errs...)
	})
}
