package inject

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"hasp/api"
)

// Decision is whether a pod gets a sidecar, and why.
type Decision struct {
	Inject bool
	// Unmet: a sidecar was asked for and cannot be.
	Unmet bool
	Why   string
}

func (d Decision) warnings() []string {
	if d.Unmet {
		return []string{"no sidecar: " + d.Why}
	}
	return nil
}

// Needed decides whether injection is for a pod. ns is nil when nothing is known
// of the namespace. A pod that already has a sidecar needs none; one that only
// bears the annotation of a sidecar does.
func Needed(pod *corev1.Pod, ns *corev1.Namespace, cfg Config) Decision {
	var nsName string
	var nsLabels map[string]string
	if ns != nil {
		nsName, nsLabels = ns.Name, ns.Labels
	}
	switch {
	case Injected(pod):
		return Decision{Why: "the pod has its sidecar already"}
	case slices.Contains(systemNamespaces(), pod.Namespace) || slices.Contains(systemNamespaces(), nsName):
		return Decision{Why: "namespace " + cmp.Or(pod.Namespace, nsName) + " is never injected"}
	case pod.Annotations[corev1.MirrorPodAnnotationKey] != "":
		return Decision{Why: "the pod mirrors a static pod of its node and cannot be changed"}
	case !api.Injected(pod.Annotations, pod.Labels, nsLabels):
		return Decision{Why: notAsked(pod, nsLabels)}
	case cfg.Revision != "" && !asksItself(pod) && nsLabels[api.NamespaceInjectKey] == "" && nsLabels[api.RevisionKey] != cfg.Revision:
		return Decision{Why: fmt.Sprintf("the namespace asks for revision %q, and this is %q", nsLabels[api.RevisionKey], cfg.Revision)}
	case pod.Spec.HostNetwork:
		return Decision{Unmet: true, Why: "the pod is on its node's network (hostNetwork), where its connections cannot be told from the node's"}
	case pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows:
		return Decision{Unmet: true, Why: "the pod is for Windows, where there is no capture"}
	}
	return Decision{Inject: true, Why: asked(pod, nsLabels)}
}

// Injected reports whether a pod has been given its sidecar.
func Injected(pod *corev1.Pod) bool {
	if pod.Annotations[api.InjectStatusKey] == "" {
		return false
	}
	proxy := func(c corev1.Container) bool { return c.Name == api.ProxyContainer }
	return slices.ContainsFunc(pod.Spec.InitContainers, proxy) || slices.ContainsFunc(pod.Spec.Containers, proxy)
}

// systemNamespaces are never injected: what runs there has to work before a mesh
// does.
func systemNamespaces() []string {
	return []string{"kube-system", "kube-public", "kube-node-lease", "istio-system"}
}

// asksItself reports whether it is the pod that asks, not its namespace.
func asksItself(pod *corev1.Pod) bool {
	return api.Injected(pod.Annotations, pod.Labels, nil)
}

func asked(pod *corev1.Pod, nsLabels map[string]string) string {
	switch {
	case pod.Labels[api.InjectKey] == "true":
		return fmt.Sprintf("the pod asks by its label %s", api.InjectKey)
	case asksItself(pod):
		return fmt.Sprintf("the pod asks by its annotation %s", api.InjectKey)
	case nsLabels[api.NamespaceInjectKey] != "":
		return fmt.Sprintf("the namespace asks by its label %s: %s", api.NamespaceInjectKey, nsLabels[api.NamespaceInjectKey])
	}
	return fmt.Sprintf("the namespace asks by its label %s: %s", api.RevisionKey, nsLabels[api.RevisionKey])
}

func notAsked(pod *corev1.Pod, nsLabels map[string]string) string {
	switch {
	case nsLabels[api.NamespaceInjectKey] == "disabled":
		return fmt.Sprintf("the namespace has the label %s: disabled", api.NamespaceInjectKey)
	case pod.Labels[api.InjectKey] == "false":
		return fmt.Sprintf("the pod refuses by its label %s", api.InjectKey)
	case pod.Annotations[api.InjectKey] == "false":
		return fmt.Sprintf("the pod refuses by its annotation %s", api.InjectKey)
	}
	return "neither the pod nor its namespace asks"
}
