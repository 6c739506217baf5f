package inject

import (
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "k8s.io/apimachinery/pkg/util/json"
)

// Result is what became of a pod.
type Result struct {
	Decision
	// Tree is the pod, which was not changed if Inject is false.
	Tree map[string]any
	// Warnings are sentences for the pod's owner.
	Warnings []string
}

// Template injects a pod, or a template of pods, in the form in which it was
// written: metadata and spec as trees. Fields that this program does not know
// stay as they are. namespace is where the pod will be.
func Template(tree map[string]any, namespace string, ns *corev1.Namespace, cfg Config) (Result, error) {
	if len(tree) == 0 {
		return Result{}, errors.New("the pod cannot be read: it is empty")
	}
	before := &corev1.Pod{}
	if err := convert(tree, before); err != nil {
		return Result{}, fmt.Errorf("the pod cannot be read: %w", err)
	}
	before.Namespace = namespace
	after, warnings, err := pour(before, ns, cfg)
	if err != nil {
		return Result{}, err
	}
	r := Result{Decision: Needed(before, ns, cfg), Tree: tree, Warnings: warnings}
	if r.Inject {
		r.Tree, err = overlay(tree, before, after)
	}
	return r, err
}

// overlay puts into a copy of the tree what differs between two pods: labels,
// annotations, and what was added to lists. What was in a list before is taken
// from the tree.
func overlay(tree map[string]any, before, after *corev1.Pod) (map[string]any, error) {
	out := runtime.DeepCopyJSON(tree)
	meta, spec := object(out, "metadata"), object(out, "spec")
	labels, notes := object(meta, "labels"), object(meta, "annotations")
	for k, v := range after.Labels {
		labels[k] = v
	}
	for k, v := range after.Annotations {
		notes[k] = v
	}
	a, b := &after.Spec, &before.Spec
	container := func(c corev1.Container) string { return c.Name }
	volume := func(v corev1.Volume) string { return v.Name }
	secret := func(r corev1.LocalObjectReference) string { return r.Name }
	for _, err := range []error{
		merge(spec, "initContainers", b.InitContainers, a.InitContainers, container),
		merge(spec, "containers", b.Containers, a.Containers, container),
		merge(spec, "volumes", b.Volumes, a.Volumes, volume),
		merge(spec, "imagePullSecrets", b.ImagePullSecrets, a.ImagePullSecrets, secret),
	} {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// merge writes the list after, with the elements that were there before as the
// tree has them.
func merge[T any](tree map[string]any, key string, before, after []T, name func(T) string) error {
	if len(before) == len(after) {
		return nil
	}
	written, _ := tree[key].([]any)
	at := make(map[string]any, len(before))
	for i, e := range before {
		at[name(e)] = written[i]
	}
	list := make([]any, 0, len(after))
	for _, e := range after {
		old, had := at[name(e)]
		if !had {
			var fresh map[string]any
			if err := convert(e, &fresh); err != nil {
				return fmt.Errorf("write %s: %w", key, err)
			}
			old = fresh
		}
		list = append(list, old)
	}
	tree[key] = list
	return nil
}

// object is a field of a tree that is an object, made when it is not there.
func object(tree map[string]any, key string) map[string]any {
	o, ok := tree[key].(map[string]any)
	if !ok {
		o = map[string]any{}
		tree[key] = o
	}
	return o
}

// convert goes from Go types to trees and back, by their JSON.
func convert(from, to any) error {
	b, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return kjson.Unmarshal(b, to)
}
