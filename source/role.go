package source

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/api"
	"hasp/mesh"
)

// role: a pod with nothing but a proxy is a gateway; one with a proxy beside its
// application has a sidecar. What else counts depends on whether the pod runs.
//
// A pod of an API server (it has a UID) has the sidecar that it was given, a
// fact: a container in its spec or its status, or the annotation that injection
// leaves. What it asks for does not count there: a pod that asks and was made
// while nobody injected has no sidecar, and peers must not speak mutual TLS to
// it. In a manifest there is no fact yet, and what it asks for is what it will
// be given.
//
// A pod on its node's network is outside the mesh whatever it says.
func role(m metav1.ObjectMeta, spec *corev1.PodSpec, nsLabels map[string]string) mesh.Role {
	if spec.HostNetwork {
		return mesh.RoleNone
	}
	proxies := 0
	for _, c := range spec.Containers {
		if c.Name == api.ProxyContainer {
			proxies++
		}
	}
	if proxies > 0 {
		if proxies == len(spec.Containers) {
			return mesh.RoleGateway
		}
		return mesh.RoleSidecar
	}
	for _, c := range spec.InitContainers {
		if c.Name == api.ProxyContainer {
			return mesh.RoleSidecar // a native sidecar
		}
	}
	if m.UID != "" {
		if m.Annotations[api.InjectStatusKey] != "" {
			return mesh.RoleSidecar
		}
		return mesh.RoleNone
	}
	if api.Injected(m.Annotations, m.Labels, nsLabels) {
		return mesh.RoleSidecar
	}
	return mesh.RoleNone
}

// hasProxyStatus: the embedded mesh adds a bare pod's sidecar when it starts it,
// so that it is in the status alone.
func hasProxyStatus(p *corev1.Pod) bool {
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
		for _, s := range list {
			if s.Name == api.ProxyContainer {
				return true
			}
		}
	}
	return false
}
