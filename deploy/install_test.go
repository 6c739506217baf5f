package deploy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hasp/deploy"
)

// run is what an installation of values said, by the last words: "created",
// "unchanged" ...
func (f *fakeCluster) run(t *testing.T, values string, dryRun bool) map[string][]string {
	t.Helper()
	f.said = nil
	if err := f.Install(t.Context(), render(t, values), dryRun); err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, line := range f.said {
		i := strings.LastIndexByte(line, ' ')
		out[line[i+1:]] = append(out[line[i+1:]], line[:i])
	}
	return out
}

func TestInstall(t *testing.T) {
	f := newFakeCluster(t)
	n := len(render(t, ""))
	if got := f.run(t, "", true); len(got["created"]) != n {
		t.Errorf("dry run: %v", got)
	}
	if left, err := f.Leftovers(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("a dry run left %v %v", left, err)
	}
	if got := f.run(t, "", false); len(got["created"]) != n || len(got) != 1 {
		t.Errorf("first: %v", got)
	}
	if got := f.run(t, "", false); len(got["unchanged"]) != n || len(got) != 1 {
		t.Errorf("again: %v", got)
	}
	got := f.run(t, "controlPlane: {replicas: 3}", false)
	if diff := cmp.Diff([]string{"deployments.apps istio-system/istiod"}, got["configured"]); diff != "" || len(got["unchanged"]) != n-1 {
		t.Errorf("a change: %s", diff)
	}
}

// What a newer installation does not make is deleted, but never a definition,
// nor what the control plane made.
func TestPrune(t *testing.T) {
	f := newFakeCluster(t, object("v1", "ConfigMap", "shop", "istio-ca-root-cert", deploy.ManagedByLabel, "hasp"))
	f.run(t, "cni: {enabled: true}", false)
	want := []string{
		"deployments.apps istio-system/istio-ingressgateway",
		"daemonsets.apps istio-system/hasp-cni-node",
		"poddisruptionbudgets.policy istio-system/istio-ingressgateway",
		"services istio-system/istio-ingressgateway",
		"rolebindings.rbac.authorization.k8s.io istio-system/hasp-cni",
		"roles.rbac.authorization.k8s.io istio-system/hasp-cni",
		"clusterrolebindings.rbac.authorization.k8s.io hasp-cni-istio-system",
		"clusterroles.rbac.authorization.k8s.io hasp-cni-istio-system",
		"serviceaccounts istio-system/hasp-cni",
		"serviceaccounts istio-system/istio-ingressgateway-service-account",
	}
	for _, dryRun := range []bool{true, false} {
		got := f.run(t, "{gateway: {enabled: false}, crds: {install: false}}", dryRun)
		if diff := cmp.Diff(want, got["deleted"]); diff != "" {
			t.Errorf("dry run %v: -want +got\n%s", dryRun, diff)
		}
		if dryRun { // the fake deletes all the same
			f.run(t, "cni: {enabled: true}", false)
		}
	}
	left, err := f.Leftovers(t.Context())
	if err != nil || !slices.Contains(left, "customresourcedefinitions.apiextensions.k8s.io gateways.networking.istio.io") || !slices.Contains(left, "configmaps shop/istio-ca-root-cert") {
		t.Errorf("%v %v", left, err)
	}
}

// A namespace that was there keeps its labels, and stays.
func TestForeignNamespace(t *testing.T) {
	f := newFakeCluster(t, object("v1", "Namespace", "", "istio-system", "pod-security.kubernetes.io/enforce", "baseline"))
	if got := f.run(t, "", false); !slices.Contains(got["already"], "namespaces istio-system is there") {
		t.Errorf("%v", got)
	}
	stays, err := f.Uninstall(t.Context(), deploy.Removal{})
	if err != nil || len(stays) > 0 {
		t.Errorf("%v %v", stays, err)
	}
	if slices.Contains(f.said, "namespaces istio-system deleted") {
		t.Error("somebody else's namespace is deleted")
	}
}

func TestFind(t *testing.T) {
	label := func(by string) []string {
		return []string{deploy.InstanceLabel, "mesh", deploy.VersionLabel, "0.0.9", deploy.PartOfLabel, "hasp", deploy.ManagedByLabel, by}
	}
	for _, c := range []struct {
		name   string
		f      *fakeCluster
		by     string
		refuse string
	}{
		{"nothing", newFakeCluster(t), "", ""},
		{"ours", newFakeCluster(t, object("apps/v1", "Deployment", "istio-system", "istiod", label("hasp")...)), deploy.ByHasp, ""},
		{"half of ours", newFakeCluster(t, object("rbac.authorization.k8s.io/v1", "ClusterRole", "", "istiod-istio-system", label("hasp")...)), deploy.ByHasp, ""},
		{"Helm's", newFakeCluster(t, object("apps/v1", "Deployment", "istio-system", "istiod", label("Helm")...)), deploy.ByHelm,
			"hasp 0.0.9 was installed by Helm as release mesh: use helm upgrade or helm uninstall mesh -n istio-system"},
		{"Istio", newFakeCluster(t, object("apps/v1", "Deployment", "istio-system", "istiod", deploy.ManagedByLabel, "Helm")), deploy.ByOther,
			"another control plane is installed, whose deployments.apps istio-system/istiod is in the way: uninstall it first; see docs/moving-from-istio.md"},
		{"Istio's webhook", newFakeCluster(t, object("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "", "istio-sidecar-injector")), deploy.ByOther,
			"another control plane is installed, whose mutatingwebhookconfigurations.admissionregistration.k8s.io istio-sidecar-injector is in the way: uninstall it first; see docs/moving-from-istio.md"},
	} {
		got, err := c.f.Find(t.Context())
		if err != nil || got.By != c.by {
			t.Errorf("%s: %+v %v", c.name, got, err)
		}
		refusal := ""
		if err := got.Refusal(); err != nil {
			refusal = err.Error()
		}
		if refusal != c.refuse {
			t.Errorf("%s: refused with %q", c.name, refusal)
		}
	}
}
