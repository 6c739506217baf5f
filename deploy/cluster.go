package deploy

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// Cluster is where an installation goes to and is taken from.
type Cluster struct {
	Client dynamic.Interface
	// Say is told each thing that is done, as one line without its end; nil is
	// silence.
	Say func(line string)
}

func (c *Cluster) say(format string, args ...any) {
	if c.Say != nil {
		c.Say(fmt.Sprintf(format, args...))
	}
}

func (c *Cluster) resource(k kind, namespace string) dynamic.ResourceInterface {
	if k.namespaced {
		return c.Client.Resource(k.GroupVersionResource).Namespace(namespace)
	}
	return c.Client.Resource(k.GroupVersionResource)
}

// list of one kind, in all namespaces; a kind that the cluster has not is none.
func (c *Cluster) list(ctx context.Context, r schema.GroupVersionResource, o metav1.ListOptions) ([]unstructured.Unstructured, error) {
	l, err := c.Client.Resource(r).List(ctx, o)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", r.Resource, err)
	}
	return l.Items, nil
}

// absent: neither the object nor, perhaps, its kind is there.
func absent(err error) bool { return apierrors.IsNotFound(err) || meta.IsNoMatchError(err) }

// Who installed what is in a cluster.
const (
	ByHasp  = "hasp"
	ByHelm  = "Helm"
	ByOther = "other" // a control plane that is not hasp's: Istio's
)

// Installed is what a cluster has of hasp, or of Istio in the same place.
type Installed struct {
	By      string // ByHasp, ByHelm, ByOther, or empty for nothing
	Release string
	Version string
	Object  string // by which it was found
}

// Find looks whether something is installed, whole or in part.
func (c *Cluster) Find(ctx context.Context) (Installed, error) {
	for _, k := range kinds() {
		name := map[string]string{
			"Deployment":                   "istiod",
			"MutatingWebhookConfiguration": "istio-sidecar-injector",
			"ClusterRole":                  "istiod-" + Namespace,
			"ClusterRoleBinding":           "istiod-" + Namespace,
		}[k.kind]
		if name == "" {
			continue
		}
		u, err := c.resource(k, Namespace).Get(ctx, name, metav1.GetOptions{})
		if absent(err) {
			continue
		}
		if err != nil {
			return Installed{}, fmt.Errorf("look for an installation: %w", err)
		}
		l := u.GetLabels()
		found := Installed{By: ByOther, Release: l[InstanceLabel], Version: l[VersionLabel], Object: k.key(u)}
		if by := l[ManagedByLabel]; l[PartOfLabel] == "hasp" && (by == ByHasp || by == ByHelm) {
			found.By = by
		}
		return found, nil
	}
	return Installed{}, nil
}

// Refusal says why hasp does not touch what something else installed, or is nil.
func (i Installed) Refusal() error {
	switch i.By {
	case ByHelm:
		return fmt.Errorf("hasp %s was installed by Helm as release %s: use helm upgrade or helm uninstall %s -n %s", i.Version, i.Release, i.Release, Namespace)
	case ByOther:
		return fmt.Errorf("another control plane is installed, whose %s is in the way: uninstall it first; see docs/moving-from-istio.md", i.Object)
	}
	return nil
}
