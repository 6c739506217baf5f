package cni

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"hasp/api"
)

// decide says what to capture for a pod: what its own annotations and probes say
// when injection gave it a sidecar that does not capture itself.
func decide(pod *corev1.Pod) (Answer, error) {
	switch {
	case pod.Spec.HostNetwork:
		return Answer{Why: "the pod has the node's network"}, nil
	case pod.Annotations[api.InjectStatusKey] == "":
		return Answer{Why: "the pod has no annotation " + api.InjectStatusKey + ", so no sidecar was injected"}, nil
	case !has(pod, api.ProxyContainer):
		return Answer{Why: "the pod has no container " + api.ProxyContainer}, nil
	case has(pod, api.InitContainer):
		return Answer{Why: "the pod's init container " + api.InitContainer + " captures"}, nil
	}
	plan, err := api.PlanCapture(pod)
	if err != nil {
		return Answer{}, fmt.Errorf("what to capture for pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return Answer{Capture: &plan}, nil
}

func has(pod *corev1.Pod, container string) bool {
	called := func(c corev1.Container) bool { return c.Name == container }
	return slices.ContainsFunc(pod.Spec.InitContainers, called) || slices.ContainsFunc(pod.Spec.Containers, called)
}
