// Package inject puts the sidecar into pods.
//
// [Pod] is all of it and pure: a pod in, a pod out, or the reason why not.
// [Needed] says who gets one and why. [Template] does the same to a pod or a
// template of pods as it was written, so that nothing is lost that this program
// does not know; "hasp inject" and [Handler], the webhook, go through it.
// Settings are a [Config].
package inject

import (
	"errors"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"hasp/api"
)

// Names that injection gives, as in Istio.
const (
	ValidationContainer = "istio-validation"

	tokenVolume = "istio-token"
	rootsVolume = "istiod-ca-cert"

	// tlsModeLabel tells Istio's own tools that a pod takes mutual TLS.
	tlsModeLabel = "security.istio.io/tlsMode"
	// defaultContainer is what kubectl logs and exec mean when nobody says.
	defaultContainer = "kubectl.kubernetes.io/default-container"
	// networksKey lists the networks that Multus attaches a pod to.
	networksKey = "k8s.v1.cni.cncf.io/networks"
)

// Pod returns the pod with a sidecar when [Needed] says so, and an equal pod
// when not. It is idempotent. ns is the pod's namespace, nil when nothing is
// known of it. The pod given is not touched, and nothing is half applied: the
// error joins one [api.PodError] for each thing that forbids a sidecar.
func Pod(pod *corev1.Pod, ns *corev1.Namespace, cfg Config) (*corev1.Pod, error) {
	out, _, err := pour(pod, ns, cfg)
	return out, err
}

// pour is Pod with what its owner should know.
func pour(pod *corev1.Pod, ns *corev1.Namespace, cfg Config) (*corev1.Pod, []string, error) {
	d := Needed(pod, ns, cfg)
	if !d.Inject {
		if d.Unmet && asksItself(pod) {
			return nil, nil, api.WrongPod("spec", "%s; remove %s from the pod, or what keeps it out", d.Why, api.InjectKey)
		}
		return pod.DeepCopy(), d.warnings(), nil
	}
	s, err := sidecarFor(pod, ns, cfg)
	if err != nil {
		return nil, nil, err
	}
	if err := s.fits(pod); err != nil {
		return nil, nil, err
	}
	out := pod.DeepCopy()
	s.mark(out)
	s.add(out)
	return out, s.warnings, nil
}

// fits finds what the pod has already and a sidecar would need.
func (s sidecar) fits(pod *corev1.Pod) error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, api.WrongPod("spec", format, args...)) }
	var podUser *int64
	if sc := pod.Spec.SecurityContext; sc != nil {
		podUser = sc.RunAsUser
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range list {
			if slices.Contains([]string{api.ProxyContainer, api.InitContainer, ValidationContainer}, c.Name) {
				fail("the pod has a container %s of its own, a name that injection gives; rename it, or label the pod %s: \"false\"", c.Name, api.InjectKey)
			}
			user := podUser
			if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
				user = c.SecurityContext.RunAsUser
			}
			if user != nil && *user == s.uid {
				fail("container %s runs as user %d, which is the sidecar's: its connections would pass uncaptured; choose another runAsUser", c.Name, s.uid)
			}
		}
	}
	for _, v := range pod.Spec.Volumes {
		if v.Name == tokenVolume || v.Name == rootsVolume {
			fail("the pod has a volume %s of its own, a name that injection gives; rename it", v.Name)
		}
	}
	return errors.Join(errs...)
}

// mark writes down, on the pod, what was done to it and what holds for it: the
// CNI plugin and later readers know the pod and not these settings.
func (s sidecar) mark(pod *corev1.Pod) {
	pod.Labels, pod.Annotations = filled(pod.Labels), filled(pod.Annotations)
	pod.Labels[tlsModeLabel] = "istio"
	maps.Copy(pod.Annotations, s.defaults)
	pod.Annotations[api.InjectStatusKey] = s.status()
	if pod.Annotations[defaultContainer] == "" && len(pod.Spec.Containers) > 0 {
		pod.Annotations[defaultContainer] = pod.Spec.Containers[0].Name
	}
	if s.cfg.CNI && s.cfg.CNINetwork != "" {
		networks := pod.Annotations[networksKey]
		if networks != "" {
			networks += ","
		}
		pod.Annotations[networksKey] = networks + s.cfg.CNINetwork
	}
}

// add puts the containers and volumes in. The sidecar comes first: containers
// start in order, and the pod's own init containers find the mesh there.
func (s sidecar) add(pod *corev1.Pod) {
	spec := &pod.Spec
	first, beside := s.containers()
	spec.InitContainers = slices.Concat(first, spec.InitContainers)
	spec.Containers = slices.Concat(beside, spec.Containers)
	spec.Volumes = append(spec.Volumes, volumes()...)
	for _, name := range s.cfg.ImagePullSecrets {
		ref := corev1.LocalObjectReference{Name: name}
		if !slices.Contains(spec.ImagePullSecrets, ref) {
			spec.ImagePullSecrets = append(spec.ImagePullSecrets, ref)
		}
	}
}

func filled(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
