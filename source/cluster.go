package source

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"hasp/api"
	"hasp/mesh"
	"hasp/world"
)

// FromCluster builds a World from one listing of everything: what a command
// does that looks once. It asks for no Secret, since only a gateway's proxy has
// a use for keys, and whoever asks about policy need not be trusted with them. An
// object that does not decode is left out, as by the [Watcher], and a Problem.
func FromCluster(ctx context.Context, client dynamic.Interface) (*world.World, []Problem, error) {
	o, leftOut, err := ReadCluster(ctx, client)
	if err != nil {
		return nil, nil, err
	}
	w, problems := Build(o, "")
	return w, append(leftOut, problems...), nil
}

// ReadCluster is the listing that FromCluster builds from.
func ReadCluster(ctx context.Context, client dynamic.Interface) (*Objects, []Problem, error) {
	var o Objects
	var leftOut []Problem
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
				u := &list.Items[i]
				v, err := api.FromUnstructured(u)
				if err != nil {
					leftOut = append(leftOut, undecodable(u, err))
					continue
				}
				o.add(v)
			}
		}
	}
	return &o, leftOut, nil
}

// undecodable says of an object that it does not decode, and why; its name is
// not said twice.
func undecodable(u *unstructured.Unstructured, err error) Problem {
	if cause := errors.Unwrap(err); cause != nil {
		err = cause
	}
	return Problem{mesh.Origin{Kind: u.GetKind(), Namespace: u.GetNamespace(), Name: u.GetName()}, "left out, it does not decode: " + err.Error()}
}
