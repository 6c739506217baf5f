package deploy

import (
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// madeObject is one of a running control plane, which no chart knows of: by kind
// and name, in one namespace or, for an empty one, in all. It is labelled as
// hasp's, but for the Lease: Istio and cert-manager make others of these names.
type madeObject struct {
	kind
	namespace, name string
}

func made() []madeObject {
	return []madeObject{
		{newKind("", "v1", "configmaps", "ConfigMap", true), "", "istio-ca-root-cert"},
		{newKind("coordination.k8s.io", "v1", "leases", "Lease", true), Namespace, "hasp-leader"},
		{newKind("", "v1", "secrets", "Secret", true), Namespace, "istio-ca-secret"},
		{newKind("", "v1", "secrets", "Secret", true), Namespace, "hasp-webhook-ca"},
	}
}

func (c *Cluster) listMade(ctx context.Context, m madeObject) ([]unstructured.Unstructured, error) {
	o := metav1.ListOptions{FieldSelector: "metadata.name=" + m.name}
	list, err := c.list(ctx, m.GroupVersionResource, o)
	return slices.DeleteFunc(list, func(u unstructured.Unstructured) bool {
		return u.GetName() != m.name || m.namespace != "" && u.GetNamespace() != m.namespace ||
			m.kind.kind != "Lease" && u.GetLabels()[ManagedByLabel] != ByHasp
	}), err
}

func (c *Cluster) removeMade(ctx context.Context, m madeObject) error {
	list, err := c.listMade(ctx, m)
	if err != nil {
		return err
	}
	for i := range list {
		if err := c.delete(ctx, m.kind, &list[i], false); err != nil {
			return err
		}
	}
	return nil
}

// Leftovers are the objects of hasp that a cluster has, each as "RESOURCE
// NAMESPACE/NAME". After Uninstall there are none but those it returned.
func (c *Cluster) Leftovers(ctx context.Context) ([]string, error) {
	var out []string
	for _, k := range kinds() {
		list, err := c.list(ctx, k.GroupVersionResource, metav1.ListOptions{LabelSelector: PartOfLabel + "=hasp"})
		if err != nil {
			return nil, err
		}
		for i := range list {
			out = append(out, k.key(&list[i]))
		}
	}
	for _, m := range made() {
		list, err := c.listMade(ctx, m)
		if err != nil {
			return nil, err
		}
		for i := range list {
			out = append(out, m.key(&list[i]))
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// ownDefinitions are the CRDs that the chart brought, by install or by Helm.
func (c *Cluster) ownDefinitions(ctx context.Context) ([]unstructured.Unstructured, error) {
	return c.list(ctx, definitions().GroupVersionResource, metav1.ListOptions{LabelSelector: PartOfLabel + "=hasp"})
}

// objectsOf a definition, as "KIND NAMESPACE/NAME".
func (c *Cluster) objectsOf(ctx context.Context, crd *unstructured.Unstructured) ([]string, error) {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	resource, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, v := range versions {
		m, _ := v.(map[string]any)
		version, _ := m["name"].(string)
		if m["served"] != true {
			continue
		}
		list, err := c.list(ctx, schema.GroupVersionResource{Group: group, Version: version, Resource: resource}, metav1.ListOptions{})
		var out []string
		for _, u := range list {
			out = append(out, u.GetKind()+" "+u.GetNamespace()+"/"+u.GetName())
		}
		return out, err
	}
	return nil, nil
}

// others are the objects in hasp's namespace that neither hasp nor Kubernetes
// made there.
func (c *Cluster) others(ctx context.Context) ([]string, error) {
	look := append(kinds(),
		newKind("", "v1", "secrets", "Secret", true),
		newKind("", "v1", "pods", "Pod", true),
		newKind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true),
		newKind("apps", "v1", "statefulsets", "StatefulSet", true),
		newKind("batch", "v1", "jobs", "Job", true),
		newKind("batch", "v1", "cronjobs", "CronJob", true),
	)
	standard := []string{"kube-root-ca.crt", "openshift-service-ca.crt", "default", "builder", "deployer"}
	var out []string
	for _, k := range look {
		if !k.namespaced {
			continue
		}
		l, err := c.resource(k, Namespace).List(ctx, metav1.ListOptions{})
		if absent(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look into namespace %s: %w", Namespace, err)
		}
		for i := range l.Items {
			u := &l.Items[i]
			if u.GetLabels()[PartOfLabel] != "hasp" && !slices.Contains(standard, u.GetName()) && len(u.GetOwnerReferences()) == 0 {
				out = append(out, k.key(u))
			}
		}
	}
	return out, nil
}

// Meshed are the pods that have a sidecar, "NAMESPACE/NAME".
func (c *Cluster) Meshed(ctx context.Context) ([]string, error) {
	pods, err := c.list(ctx, schema.GroupVersionResource{Version: "v1", Resource: "pods"}, metav1.ListOptions{})
	var out []string
	for _, p := range pods {
		if p.GetAnnotations()["sidecar.istio.io/status"] != "" {
			out = append(out, p.GetNamespace()+"/"+p.GetName())
		}
	}
	return out, err
}
