package deploy

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
)

// Removal says how far Uninstall goes.
type Removal struct {
	// KeepDefinitions leaves the CRDs, and with them every policy.
	KeepDefinitions bool
	// Purge deletes CRDs even when there are objects of their kinds, which go
	// with them. Without it such a CRD stays.
	Purge bool
}

// Uninstall takes away what Install or a Helm release left, and what the running
// control plane made: the webhooks first, so that no pod waits for a server that
// is gone; then what runs, until it has ended and makes nothing more; then the
// rest. The namespace goes when hasp made it and nobody else's objects are in
// it. Secret "cacerts" is the user's and stays. It returns what stays and why.
func (c *Cluster) Uninstall(ctx context.Context, how Removal) ([]string, error) {
	for _, k := range kinds() {
		if k == definitions() || k == namespaces() {
			continue
		}
		if err := c.removeLabelled(ctx, k); err != nil {
			return nil, err
		}
	}
	for _, m := range made() {
		if err := c.removeMade(ctx, m); err != nil {
			return nil, err
		}
	}
	var stays []string
	if !how.KeepDefinitions {
		kept, err := c.removeDefinitions(ctx, how.Purge)
		if err != nil {
			return nil, err
		}
		stays = kept
	}
	more, err := c.removeNamespace(ctx)
	return append(stays, more...), err
}

// removeLabelled deletes all of one kind that is the chart's, and waits until
// what runs has ended.
func (c *Cluster) removeLabelled(ctx context.Context, k kind) error {
	list, err := c.list(ctx, k.GroupVersionResource, metav1.ListOptions{LabelSelector: PartOfLabel + "=hasp," + chartLabel})
	if err != nil {
		return err
	}
	for i := range list {
		if err := c.delete(ctx, k, &list[i], false); err != nil {
			return err
		}
	}
	for i := range list {
		if err := c.gone(ctx, k, &list[i]); err != nil {
			return err
		}
	}
	return nil
}

// gone waits for the end of an object, which is that of all it owned.
func (c *Cluster) gone(ctx context.Context, k kind, u *unstructured.Unstructured) error {
	err := wait.PollUntilContextCancel(ctx, pollEvery, true, func(ctx context.Context) (bool, error) {
		now, err := c.resource(k, u.GetNamespace()).Get(ctx, u.GetName(), metav1.GetOptions{})
		if absent(err) {
			return true, nil
		}
		return err == nil && now.GetUID() != u.GetUID(), err
	})
	if err != nil {
		return fmt.Errorf("wait for the end of %s: %w", k.key(u), err)
	}
	return nil
}

// removeDefinitions deletes the chart's CRDs: those without objects, or all.
func (c *Cluster) removeDefinitions(ctx context.Context, purge bool) ([]string, error) {
	crds, err := c.ownDefinitions(ctx)
	if err != nil {
		return nil, err
	}
	var stays []string
	for i := range crds {
		objects, err := c.objectsOf(ctx, &crds[i])
		if err != nil {
			return nil, err
		}
		if len(objects) > 0 && !purge {
			stays = append(stays, fmt.Sprintf("%s, of which there are %s; --purge deletes them with it", definitions().key(&crds[i]), some(objects)))
			continue
		}
		if len(objects) > 0 {
			c.say("with %s go %s", crds[i].GetName(), some(objects))
		}
		if err := c.delete(ctx, definitions(), &crds[i], false); err != nil {
			return nil, err
		}
		if err := c.gone(ctx, definitions(), &crds[i]); err != nil {
			return nil, err
		}
	}
	return stays, nil
}

func (c *Cluster) removeNamespace(ctx context.Context) ([]string, error) {
	ns, err := c.resource(namespaces(), "").Get(ctx, Namespace, metav1.GetOptions{})
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if ns.GetLabels()[ManagedByLabel] != ByHasp {
		return nil, nil // somebody else's; it was there before or is Helm's user's
	}
	others, err := c.others(ctx)
	if err != nil {
		return nil, err
	}
	if len(others) > 0 {
		return []string{fmt.Sprintf("namespace %s, in which there are %s", Namespace, some(others))}, nil
	}
	if err := c.delete(ctx, namespaces(), ns, false); err != nil {
		return nil, err
	}
	return nil, c.gone(ctx, namespaces(), ns)
}

// some names of many.
func some(names []string) string {
	const most = 5
	if more := len(names) - most; more > 0 {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(names, ", ")
}
