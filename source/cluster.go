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
// does that looks once. It asks for no Secret, since only a gateway's proxy has
// a use for keys, and whoever asks about policy need not be trusted with them.
func FromCluster(ctx context.Context, client dynamic.Interface) (*world.World, []Problem, error) {
	var o Objects
	for _, r := range Resources() {
		if r == secretResource {
			continue
		}
		for _, namespace := range (Scope{}).namespaces(r) {
			list, err := client.Resource(r).Namespace(namespace).List(ctx, metav1.ListOptions{})
			if apierrors.IsNotFound(err) {
				continue // a cluster without this kind
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
	}
	w, problems := Build(&o, "")
	return w, problems, nil
}
