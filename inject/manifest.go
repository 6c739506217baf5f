package inject

import (
	"cmp"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"hasp/api"
)

// Manifests injects the pods and templates of pods among objects and leaves the
// others as they are. Whoever asks for this asks for sidecars: a namespace that
// does not say otherwise, by a Namespace among the objects, counts as labelled
// istio-injection: enabled. Objects that name no namespace are in namespace.
//
// The trees are in the order of the objects. Notes are lines for a person, about
// what was not injected and what else to know; the error joins an [api.Error]
// for each thing wrong.
func Manifests(objects []api.Object, namespace string, cfg Config) (trees []map[string]any, notes []string, err error) {
	spaces := namespaces(objects)
	var errs []error
	for _, o := range objects {
		tree := o.Tree()
		trees = append(trees, tree)
		path, err := templatePath(o)
		if err != nil {
			errs = append(errs, err)
		}
		if path == nil || err != nil {
			continue
		}
		in := cmp.Or(o.Meta().GetNamespace(), namespace)
		r, err := Template(at(tree, path), in, asking(spaces[in], in), cfg)
		if err != nil {
			for _, e := range leaves(err) {
				errs = append(errs, located(o, path, e))
			}
			continue
		}
		if r.Inject {
			put(trees, path, r.Tree)
		} else if !r.Unmet {
			r.Warnings = append(r.Warnings, "not injected: "+r.Why)
		}
		for _, w := range r.Warnings {
			notes = append(notes, o.Errorf("", "%s", w).Error())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	return trees, notes, nil
}

// templatePath is where an object has its pod: empty for a Pod itself, nil when
// there is none. The object is checked on the way, if Decode did not do it.
func templatePath(o api.Object) ([]string, error) {
	template := []string{"spec", "template"}
	switch o.GVK.GroupKind().String() {
	case "Pod":
		return []string{}, nil
	case "Deployment.apps", "StatefulSet.apps", "DaemonSet.apps":
		return template, nil
	case "ReplicaSet.apps":
		return template, o.As(&appsv1.ReplicaSet{})
	case "ReplicationController":
		return template, o.As(&corev1.ReplicationController{})
	case "Job.batch":
		return template, o.As(&batchv1.Job{})
	case "CronJob.batch":
		return []string{"spec", "jobTemplate", "spec", "template"}, o.As(&batchv1.CronJob{})
	}
	return nil, nil
}

// at is the object at a path, empty when the path is not written.
func at(tree map[string]any, path []string) map[string]any {
	for _, step := range path {
		tree, _ = tree[step].(map[string]any)
	}
	return tree
}

// put replaces what the last of the trees has at the path.
func put(trees []map[string]any, path []string, pod map[string]any) {
	last := len(trees) - 1
	if len(path) == 0 {
		trees[last] = pod
		return
	}
	at(trees[last], path[:len(path)-1])[path[len(path)-1]] = pod
}

func namespaces(objects []api.Object) map[string]*corev1.Namespace {
	out := map[string]*corev1.Namespace{}
	for _, o := range objects {
		if ns, ok := o.Value.(*corev1.Namespace); ok {
			out[ns.Name] = ns
		}
	}
	return out
}

// asking is a namespace that asks for sidecars unless it says something itself.
func asking(ns *corev1.Namespace, name string) *corev1.Namespace {
	if ns == nil {
		ns = &corev1.Namespace{}
		ns.Name = name
	}
	if ns.Labels[api.NamespaceInjectKey] != "" || ns.Labels[api.RevisionKey] != "" {
		return ns
	}
	ns = ns.DeepCopy()
	ns.Labels = filled(ns.Labels)
	ns.Labels[api.NamespaceInjectKey] = "enabled"
	return ns
}

// located says at which line of the object something is wrong with its pod.
func located(o api.Object, path []string, err error) error {
	var field string
	var wrong *api.PodError
	if errors.As(err, &wrong) {
		field = wrong.Field
	}
	for i := len(path) - 1; i >= 0; i-- {
		field = fmt.Sprintf("%s.%s", path[i], field)
	}
	e := o.Errorf(field, "%s", err)
	e.Field = "" // the sentence names the place
	return e
}
