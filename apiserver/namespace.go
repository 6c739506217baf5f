package apiserver

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
)

// contents is the finalizer that keeps a Namespace until it is empty. On a
// cluster it stands in spec.finalizers; in metadata the generic registry does
// the rest.
const contents = string(corev1.FinalizerKubernetes)

func namespaceKind() anyKind {
	return kind[corev1.Namespace]{
		gv: corev1.SchemeGroupVersion, resource: "namespaces", singular: "namespace", shortNames: []string{"ns"}, clusterScoped: true,
		newObject: func() runtime.Object { return &corev1.Namespace{} },
		newList:   func() runtime.Object { return &corev1.NamespaceList{} },
		name:      validation.NameIsDNSLabel,
		defaults: func(n *corev1.Namespace) {
			if n.Name != "" { // what every namespaceSelector counts on
				if n.Labels == nil {
					n.Labels = map[string]string{}
				}
				n.Labels[corev1.LabelMetadataName] = n.Name
			}
		},
		create: func(n *corev1.Namespace) {
			n.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
			if !slices.Contains(n.Finalizers, contents) {
				n.Finalizers = append(n.Finalizers, contents)
			}
		},
		keepStatus: func(to, from *corev1.Namespace) { to.Status = from.Status },
		keepSpec:   func(to, from *corev1.Namespace) { to.Spec = from.Spec },
		fields: func(n *corev1.Namespace) fields.Set {
			return fields.Set{"status.phase": string(phase(n))}
		},
		columns: columns("Name", "Status", "Age"),
		row:     func(n *corev1.Namespace) []any { return []any{n.Name, string(phase(n)), age(n)} },
	}
}

func phase(n *corev1.Namespace) corev1.NamespacePhase {
	if n.DeletionTimestamp != nil {
		return corev1.NamespaceTerminating
	}
	return n.Status.Phase
}
