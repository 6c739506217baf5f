package source

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"

	"hasp/api"
	"hasp/world"
)

// FromCluster builds a World from one listing of everything: what a command
// does that looks once. Whoever may not read Secrets gets a World without
// gateways' certificates, which policy has no need of; any other refusal is an
// error, since a policy that was not read would make the answer wrong.
func FromCluster(ctx context.Context, client dynamic.Interface) (*world.World, []Problem, error) {
	var o Objects
	for _, r := range Resources() {
		list, err := client.Resource(r).List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			continue // a cluster without this kind
		}
		if apierrors.IsForbidden(err) && r.Resource == "secrets" {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("list %s: %w", r.Resource, err)
		}
		for i := range list.Items {
			v, err := api.FromUnstructured(&list.Items[i])
			if err != nil {
				return nil, nil, err
			}
			o.add(v)
		}
	}
	w, problems := Build(&o, "")
	return w, problems, nil
}
