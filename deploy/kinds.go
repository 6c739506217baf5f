package deploy

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// kind is one that the chart makes, or once made: what it no longer makes stays
// on the list, so that a newer hasp finds an older one's objects.
type kind struct {
	schema.GroupVersionResource
	kind       string
	namespaced bool
}

func newKind(group, version, resource, name string, namespaced bool) kind {
	return kind{schema.GroupVersionResource{Group: group, Version: version, Resource: resource}, name, namespaced}
}

// kinds in the order to take them away: webhooks before the server behind them,
// what runs before what it needs.
func kinds() []kind {
	return []kind{
		newKind("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", false),
		newKind("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", false),
		newKind("apps", "v1", "deployments", "Deployment", true),
		newKind("apps", "v1", "daemonsets", "DaemonSet", true),
		newKind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", true),
		newKind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", true),
		newKind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", true),
		newKind("", "v1", "services", "Service", true),
		newKind("", "v1", "configmaps", "ConfigMap", true),
		newKind("k8s.cni.cncf.io", "v1", "network-attachment-definitions", "NetworkAttachmentDefinition", true),
		newKind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", true),
		newKind("rbac.authorization.k8s.io", "v1", "roles", "Role", true),
		newKind("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", false),
		newKind("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", false),
		newKind("", "v1", "serviceaccounts", "ServiceAccount", true),
		definitions(),
		namespaces(),
	}
}

func definitions() kind {
	return newKind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false)
}

func namespaces() kind { return newKind("", "v1", "namespaces", "Namespace", false) }

func kindOf(u *unstructured.Unstructured) (kind, error) {
	gvk := u.GroupVersionKind()
	for _, k := range kinds() {
		if k.kind == gvk.Kind && k.Group == gvk.Group && k.Version == gvk.Version {
			return k, nil
		}
	}
	return kind{}, fmt.Errorf("deploy: the chart made a %s, which hasp cannot apply", gvk)
}

// key names an object among all.
func (k kind) key(u *unstructured.Unstructured) string { return k.ref(u.GetNamespace(), u.GetName()) }

// ref is "deployment.apps istio-system/istiod", as kubectl writes kinds.
func (k kind) ref(namespace, name string) string {
	s := k.Resource
	if k.Group != "" {
		s += "." + k.Group
	}
	if k.namespaced {
		return s + " " + namespace + "/" + name
	}
	return s + " " + name
}

// Resource is where the API has an object that the chart made.
func Resource(u *unstructured.Unstructured) (schema.GroupVersionResource, error) {
	k, err := kindOf(u)
	return k.GroupVersionResource, err
}
