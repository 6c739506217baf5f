package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hasp/api"
	"hasp/cluster"
)

const webhookHint = "may the API server connect to port 15017 of the istiod pods? NetworkPolicies, firewalls and private control planes are in the way most often"

// wrongPolicy is one that only hasp refuses: its definition takes it.
func wrongPolicy() *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"targets": []any{map[string]any{"name": "hasp-check"}}}}}
	u.SetAPIVersion("authentication.istio.io/v1alpha1")
	u.SetKind("MeshPolicy")
	u.SetName("default")
	return u
}

// askValidation applies a wrong object as a dry run, and knows hasp's answer.
func (c *checker) askValidation(ctx context.Context) Result {
	wrong := wrongPolicy()
	want := api.ValidateUnstructured(wrong)
	_, err := c.Dynamic.Resource(schema.GroupVersionResource{Group: "authentication.istio.io", Version: "v1alpha1", Resource: "meshpolicies"}).
		Apply(ctx, wrong.GetName(), wrong, metav1.ApplyOptions{FieldManager: "hasp-check", Force: true, DryRun: []string{metav1.DryRunAll}})
	switch {
	case err == nil:
		return fail("a wrong object was taken", "is webhook configuration "+cluster.ValidatingWebhooks+" there? install again")
	case len(want) > 0 && strings.Contains(err.Error(), want[0].Detail):
		return ok("")
	case apierrors.IsForbidden(err):
		return warn(err.Error(), "ask somebody who may write mesh policies")
	}
	return failed(err, webhookHint)
}

// askInjection creates a pod as a dry run where one would be injected, and looks
// for its sidecar.
func (c *checker) askInjection(ctx context.Context) Result {
	if _, err := c.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, cluster.MutatingWebhooks, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		return Result{} // injection.enabled: false
	}
	namespace, err := c.injectable(ctx)
	if err != nil {
		return failed(err, "")
	}
	got, err := c.Client.CoreV1().Pods(namespace).Create(ctx, modestPod("true"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	switch {
	case err != nil && strings.Contains(err.Error(), "PodSecurity"):
		return fail(err.Error(), "use --set cni.enabled=true, or label the namespace pod-security.kubernetes.io/enforce=privileged")
	case err != nil && strings.Contains(err.Error(), "webhook"):
		return failed(err, webhookHint)
	case err != nil:
		return warn(err.Error(), "a pod could not be tried in namespace "+namespace)
	case got.Annotations[api.InjectStatusKey] == "":
		return fail("a pod of namespace "+namespace+" got no sidecar", "is another webhook in the way? kubectl get mutatingwebhookconfigurations")
	}
	return ok("tried in namespace " + namespace)
}

// injectable is a namespace where a pod that asks gets a sidecar: one of the
// mesh, else default, else any.
func (c *checker) injectable(ctx context.Context) (string, error) {
	mesh, err := c.meshNamespaces(ctx)
	if err != nil {
		return "", err
	}
	if len(mesh) > 0 {
		return mesh[0], nil
	}
	all, err := c.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	var names []string
	for _, ns := range all.Items {
		if ns.Labels[api.NamespaceInjectKey] != "disabled" && ns.Status.Phase != corev1.NamespaceTerminating && !system(ns.Name) {
			names = append(names, ns.Name)
		}
	}
	if len(names) == 0 {
		return "", errors.New("no namespace may have sidecars")
	}
	if slices.Contains(names, metav1.NamespaceDefault) {
		return metav1.NamespaceDefault, nil
	}
	return names[0], nil
}

// system namespaces are never injected.
func system(name string) bool {
	return slices.Contains([]string{metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease, cluster.Namespace}, name)
}

// meshNamespaces are those that ask for sidecars by their labels.
func (c *checker) meshNamespaces(ctx context.Context) ([]string, error) {
	list, err := c.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	var out []string
	for _, ns := range list.Items {
		if api.Injected(nil, nil, ns.Labels) && ns.Status.Phase != corev1.NamespaceTerminating && !system(ns.Name) {
			out = append(out, ns.Name)
		}
	}
	return out, nil
}
