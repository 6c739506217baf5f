package source

import (
	"log/slog"
	"maps"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"hasp/api"
)

// typed is the informers' transform: the typed object with nothing but what
// hasp reads. An object that does not decode stays out of the World, which the
// log says; it must not hide the others.
func (w *Watcher) typed(obj any) (any, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return obj, nil
	}
	v, err := api.FromUnstructured(u)
	if err != nil {
		w.log.Warn("object left out", slog.String("kind", u.GetKind()), slog.String("namespace", u.GetNamespace()), slog.String("name", u.GetName()), slog.Any("error", err))
		return u, nil
	}
	trim(v)
	return v, nil
}

// trim leaves of an object what hasp reads. It saves most of the memory, and
// lets same tell a pod's heartbeat from news.
func trim(v any) {
	m, ok := v.(metav1.Object)
	if !ok {
		return
	}
	writers := lastWrite(m.GetManagedFields())
	m.SetManagedFields(nil)
	m.SetAnnotations(only(m.GetAnnotations(), annotationsRead...))
	switch v := v.(type) { // of configuration it matters who wrote it
	case *corev1.Pod:
		trimPod(v)
	case *corev1.Service:
		v.Status = corev1.ServiceStatus{}
	case *corev1.Secret:
		v.Data = only(v.Data, corev1.TLSCertKey, corev1.TLSPrivateKeyKey, secretCA)
	case *corev1.ConfigMap:
		v.Data, v.BinaryData = only(v.Data, api.MeshConfigKey), nil
		if v.Name != api.MeshConfigName {
			v.Data = nil
			return
		}
		m.SetManagedFields(writers)
	case *corev1.Namespace, *discoveryv1.EndpointSlice:
	default:
		m.SetManagedFields(writers)
	}
}

// lastWrite keeps who wrote last what the object asks for, and when. What a
// controller writes into its status says nothing of the object.
func lastWrite(list []metav1.ManagedFieldsEntry) []metav1.ManagedFieldsEntry {
	var last *metav1.ManagedFieldsEntry
	for i := range list {
		e := &list[i]
		if e.Subresource == "" && e.Time != nil && (last == nil || last.Time.Before(e.Time)) {
			last = e
		}
	}
	if last == nil {
		return nil
	}
	return []metav1.ManagedFieldsEntry{{Manager: last.Manager, Operation: last.Operation, Time: last.Time}}
}

// annotationsRead are all annotations that hasp reads of an object of a
// cluster. (kubectl keeps whole objects in one.)
var annotationsRead = []string{api.InjectKey, api.InjectStatusKey, exportToKey, deploymentConfigKey, api.DryRunKey}

// trimPod keeps names and ports of the containers, and of the status who runs
// and where.
func trimPod(p *corev1.Pod) {
	p.Spec = corev1.PodSpec{
		ServiceAccountName: p.Spec.ServiceAccountName,
		HostNetwork:        p.Spec.HostNetwork,
		NodeName:           p.Spec.NodeName,
		Containers:         containersRead(p.Spec.Containers),
		InitContainers:     containersRead(p.Spec.InitContainers),
	}
	status := corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			status.Conditions = []corev1.PodCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	if hasProxyStatus(p) {
		status.ContainerStatuses = []corev1.ContainerStatus{{Name: api.ProxyContainer}}
	}
	p.Status = status
}

func containersRead(list []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for _, c := range list {
		out = append(out, corev1.Container{Name: c.Name, Ports: c.Ports, RestartPolicy: c.RestartPolicy})
	}
	return out
}

func only[V any](m map[string]V, keys ...string) map[string]V {
	var out map[string]V
	for _, k := range keys {
		if v, ok := m[k]; ok {
			if out == nil {
				out = map[string]V{}
			}
			out[k] = v
		}
	}
	return out
}

// same reports whether an update changed nothing that hasp reads. Of the
// cluster's own kinds nothing else is kept, so they are compared as they are.
// An istio object counts the changes of its spec as generation, and what else
// changes is status.
func same(old, now any) bool {
	a, ok1 := old.(metav1.Object)
	b, ok2 := now.(metav1.Object)
	if !ok1 || !ok2 {
		return false
	}
	if a.GetResourceVersion() == b.GetResourceVersion() {
		return true
	}
	switch now.(type) {
	case *corev1.Namespace, *corev1.Service, *corev1.Pod, *corev1.Secret, *corev1.ConfigMap, *discoveryv1.EndpointSlice:
		return equality.Semantic.DeepEqual(versionless(old), versionless(now))
	}
	return a.GetGeneration() != 0 && a.GetGeneration() == b.GetGeneration() &&
		maps.Equal(a.GetLabels(), b.GetLabels()) && maps.Equal(a.GetAnnotations(), b.GetAnnotations())
}

// versionless is a copy without the count of its writes.
func versionless(v any) any {
	c := v.(runtime.Object).DeepCopyObject()
	m := c.(metav1.Object)
	m.SetResourceVersion("")
	m.SetGeneration(0)
	return c
}
