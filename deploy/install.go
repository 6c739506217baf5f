package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// FieldManager owns, in server-side apply, the fields that hasp install sets.
const FieldManager = "hasp"

// Install applies objects in their order by server-side apply, then deletes
// what an earlier hasp install made and this one does not. It may be repeated.
// With dryRun the API server checks every object and nothing is changed. A
// namespace that somebody else made is used and left as it is.
func (c *Cluster) Install(ctx context.Context, objects []*unstructured.Unstructured, dryRun bool) error {
	keep := map[string]bool{}
	for _, u := range objects {
		k, err := kindOf(u)
		if err != nil {
			return err
		}
		keep[k.key(u)] = true
		change, err := c.apply(ctx, k, u, dryRun)
		if err != nil {
			return fmt.Errorf("apply %s: %w", k.key(u), err)
		}
		c.say("%s %s", k.key(u), change)
	}
	return c.prune(ctx, keep, dryRun)
}

func (c *Cluster) apply(ctx context.Context, k kind, u *unstructured.Unstructured, dryRun bool) (string, error) {
	r := c.resource(k, u.GetNamespace())
	before, err := r.Get(ctx, u.GetName(), metav1.GetOptions{})
	if err != nil && !absent(err) {
		return "", err
	}
	exists := err == nil
	if exists && k == namespaces() && before.GetLabels()[ManagedByLabel] != ByHasp {
		return "is there already", nil
	}
	o := metav1.ApplyOptions{FieldManager: FieldManager, Force: true}
	if dryRun {
		o.DryRun = []string{metav1.DryRunAll}
	}
	after, err := r.Apply(ctx, u.GetName(), u, o)
	switch {
	case dryRun && !exists && apierrors.IsNotFound(err):
		return "created", nil // the namespace is not there to check it in
	case err != nil:
		return "", err
	case !exists:
		return "created", nil
	case same(before, after):
		return "unchanged", nil
	}
	return "configured", nil
}

// same but for what the API server counts.
func same(a, b *unstructured.Unstructured) bool {
	texts := make([][]byte, 2)
	for i, u := range []*unstructured.Unstructured{a, b} {
		u = u.DeepCopy()
		u.SetManagedFields(nil)
		u.SetResourceVersion("")
		u.SetGeneration(0)
		texts[i], _ = json.Marshal(u.Object)
	}
	return bytes.Equal(texts[0], texts[1])
}

// prune deletes what hasp install made and keep does not name. Definitions are
// never pruned: objects of users would go with them.
func (c *Cluster) prune(ctx context.Context, keep map[string]bool, dryRun bool) error {
	for _, k := range kinds() {
		if k == namespaces() || k == definitions() {
			continue
		}
		// The chart's label keeps out what the running control plane made.
		old, err := c.list(ctx, k.GroupVersionResource, metav1.ListOptions{LabelSelector: PartOfLabel + "=hasp," + ManagedByLabel + "=" + ByHasp + "," + chartLabel})
		if err != nil {
			return err
		}
		for i := range old {
			if keep[k.key(&old[i])] {
				continue
			}
			if err := c.delete(ctx, k, &old[i], dryRun); err != nil {
				return err
			}
		}
	}
	return nil
}

// delete an object and what it owns; one that is gone already is no error.
func (c *Cluster) delete(ctx context.Context, k kind, u *unstructured.Unstructured, dryRun bool) error {
	policy := metav1.DeletePropagationForeground
	o := metav1.DeleteOptions{PropagationPolicy: &policy}
	if dryRun {
		o.DryRun = []string{metav1.DryRunAll}
	}
	err := c.resource(k, u.GetNamespace()).Delete(ctx, u.GetName(), o)
	if absent(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", k.key(u), err)
	}
	c.say("%s deleted", k.key(u))
	return nil
}
