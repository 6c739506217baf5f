package deploy_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"hasp/deploy"
)

// running is a cluster with hasp, what its control plane made, and what its
// users did.
func running(t *testing.T) *fakeCluster {
	t.Helper()
	f := newFakeCluster(t,
		object("v1", "ConfigMap", "shop", "istio-ca-root-cert", deploy.ManagedByLabel, "hasp"),
		object("v1", "ConfigMap", "istio-system", "istio-ca-root-cert", deploy.ManagedByLabel, "hasp"),
		object("v1", "ConfigMap", "other", "istio-ca-root-cert"), // cert-manager's
		object("v1", "ConfigMap", "istio-system", "kube-root-ca.crt"),
		object("v1", "Secret", "istio-system", "istio-ca-secret", deploy.ManagedByLabel, "hasp"),
		object("v1", "Secret", "istio-system", "hasp-webhook-ca", deploy.ManagedByLabel, "hasp"),
		object("coordination.k8s.io/v1", "Lease", "istio-system", "hasp-leader"),
	)
	f.run(t, "cni: {enabled: true}", false)
	f.said = nil
	return f
}

func TestUninstallLeavesNothing(t *testing.T) {
	f := running(t)
	stays, err := f.Uninstall(t.Context(), deploy.Removal{})
	if err != nil || len(stays) > 0 {
		t.Fatalf("%v %v", stays, err)
	}
	left, err := f.Leftovers(t.Context())
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
	// Nobody waits for a webhook whose server is gone, and nobody makes again
	// what is deleted.
	at := func(line string) int {
		i := slices.Index(f.said, line+" deleted")
		if i < 0 {
			t.Errorf("%s is not deleted", line)
		}
		return i
	}
	order := []int{
		at("mutatingwebhookconfigurations.admissionregistration.k8s.io istio-sidecar-injector"),
		at("deployments.apps istio-system/istiod"),
		at("serviceaccounts istio-system/istiod"),
		at("configmaps shop/istio-ca-root-cert"),
		at("customresourcedefinitions.apiextensions.k8s.io gateways.networking.istio.io"),
		at("namespaces istio-system"),
	}
	if !slices.IsSorted(order) {
		t.Errorf("the order is wrong:\n%s", strings.Join(f.said, "\n"))
	}
	if slices.Contains(f.said, "configmaps other/istio-ca-root-cert deleted") {
		t.Error("somebody else's roots are deleted")
	}
	f.said = nil
	if stays, err := f.Uninstall(t.Context(), deploy.Removal{}); err != nil || len(stays)+len(f.said) > 0 {
		t.Errorf("again: %v %v %v", stays, f.said, err)
	}
}

func TestUninstallKeepsWhatIsYours(t *testing.T) {
	yours := []*unstructured.Unstructured{
		object("security.istio.io/v1", "PeerAuthentication", "shop", "default"),
		object("v1", "Secret", "istio-system", "cacerts"),
	}
	const crd = "customresourcedefinitions.apiextensions.k8s.io "
	namespace := "namespace istio-system, in which there are secrets istio-system/cacerts"
	for _, c := range []struct {
		name string
		how  deploy.Removal
		want []string
		left int
	}{
		{"by default", deploy.Removal{}, []string{crd + "peerauthentications.security.istio.io, of which there are PeerAuthentication shop/default; --purge deletes them with it", namespace}, 2},
		{"with the definitions", deploy.Removal{KeepDefinitions: true}, []string{namespace}, len(definitionNames(t)) + 1},
		{"purged", deploy.Removal{Purge: true}, []string{namespace}, 1},
	} {
		f := running(t)
		for _, o := range yours {
			r, err := resourceOf(o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Client.Resource(r).Namespace(o.GetNamespace()).Create(t.Context(), o, createOptions); err != nil {
				t.Fatal(err)
			}
		}
		stays, err := f.Uninstall(t.Context(), c.how)
		if diff := cmp.Diff(c.want, stays); diff != "" || err != nil {
			t.Errorf("%s: %v -want +got\n%s", c.name, err, diff)
		}
		left, err := f.Leftovers(t.Context())
		if err != nil || len(left) != c.left {
			t.Errorf("%s: left %v %v", c.name, left, err)
		}
	}
}

// TestWait: a wait that ends too early says what is wrong with the pods.
func TestWait(t *testing.T) {
	d := object("apps/v1", "Deployment", "istio-system", "istiod", deploy.PartOfLabel, "hasp")
	d.Object["spec"] = map[string]any{"replicas": int64(2)}
	p := object("v1", "Pod", "istio-system", "istiod-1", deploy.PartOfLabel, "hasp")
	p.Object["status"] = map[string]any{"containerStatuses": []any{map[string]any{
		"name": "discovery", "state": map[string]any{"waiting": map[string]any{"reason": "ImagePullBackOff", "message": "no such image"}},
	}}}
	f := newFakeCluster(t, d, p)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var progress []string
	err := f.Wait(ctx, []*unstructured.Unstructured{d}, func(s string) { progress = append(progress, s) })
	want := `deployments.apps istio-system/istiod is not ready in time: Waiting for deployment "istiod" rollout to finish: 0 out of 2 new replicas have been updated
  pod istiod-1: discovery: ImagePullBackOff no such image`
	if err == nil || err.Error() != want || len(progress) != 1 {
		t.Errorf("got  %v %v\nwant %s", err, progress, want)
	}

	hook := object("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "", "istio-validator-istio-system")
	hook.Object["webhooks"] = []any{map[string]any{"name": "validation.istio.io", "clientConfig": map[string]any{}}}
	f = newFakeCluster(t, hook)
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := f.Wait(ctx, []*unstructured.Unstructured{hook}, func(string) {}); err == nil || !strings.HasSuffix(err.Error(), "Waiting for the control plane's root in webhook validation.istio.io") {
		t.Error(err)
	}
}
