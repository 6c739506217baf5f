package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"

	"hasp/api"
	"hasp/mesh"
)

// sidecar is what one pod gets: the settings with the pod's own word in them.
type sidecar struct {
	cfg    Config
	uid    int64
	native bool
	hold   bool
	trunks string // "on" or "off"; empty is as the proxy does
	idle   string // a duration, or empty

	// defaults are the annotations about capture that the settings have and the
	// pod has not.
	defaults map[string]string
	plan     api.CapturePlan
	probes   []mesh.Probe

	warnings []string
}

// sidecarFor reads the pod. The error joins everything that is wrong with it.
func sidecarFor(pod *corev1.Pod, ns *corev1.Namespace, cfg Config) (sidecar, error) {
	s := sidecar{
		cfg: cfg, native: cfg.NativeSidecar, hold: cfg.HoldApplicationUntilProxyStarts,
		uid: userOf(ns, cfg.UID), defaults: map[string]string{},
	}
	var errs []error
	for key, value := range cfg.captureDefaults() {
		if _, said := pod.Annotations[key]; !said {
			s.defaults[key] = value
		}
	}
	said := pod.DeepCopy()
	said.Annotations = filled(said.Annotations)
	maps.Copy(said.Annotations, s.defaults)
	var err error
	if s.plan, err = api.PlanCapture(said); err != nil {
		errs = append(errs, err)
	}
	if err := s.annotations(pod.Annotations, pod.Labels); err != nil {
		errs = append(errs, err)
	}
	if s.probes, err = meshProbes(s.plan.Probes); err != nil {
		errs = append(errs, err)
	}
	if n := len(s.plan.ProbePorts); n > mesh.MaxProbeDoors {
		errs = append(errs, api.WrongPod("spec", "%d ports have tcpSocket probes, and %d can; exclude some with %s", n, mesh.MaxProbeDoors, api.ExcludeInboundPortsKey))
	}
	if len(errs) > 0 {
		return sidecar{}, errors.Join(errs...)
	}
	_, problems := api.NetworkProbes(&pod.Spec)
	s.warnings = append(s.warnings, problems...)
	for _, q := range s.plan.Probes {
		if q.Hook {
			s.warn("%s: where a port takes only mutual TLS, the sidecar refuses the kubelet's httpGet hook; use exec, or exclude port %d with %s", q.Field, q.Port, api.ExcludeInboundPortsKey)
		}
	}
	if p := pod.Spec.DNSPolicy; p != "" && p != corev1.DNSClusterFirst && p != corev1.DNSClusterFirstWithHostNet {
		s.warn("dnsPolicy %s: the sidecar may not find %s", p, s.cfg.ControlPlane)
	}
	if !s.native {
		s.warnings = append(s.warnings, s.classicWarnings(pod)...)
	}
	return s, nil
}

// classicWarnings are what a sidecar among the containers cannot do.
func (s sidecar) classicWarnings(pod *corev1.Pod) []string {
	var out []string
	if pod.Spec.RestartPolicy == corev1.RestartPolicyNever || pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure {
		out = append(out, "the pod will not end by itself: a sidecar that is no native one stays when the application is done")
	}
	if len(pod.Spec.InitContainers) > 0 && !s.cfg.CNI {
		out = append(out, "the pod's init containers have no network: a sidecar that is no native one starts after them")
	}
	return out
}

// containers are those that injection adds: in front of the init containers, and
// of the others.
func (s sidecar) containers() (init, beside []corev1.Container) {
	if !s.cfg.CNI {
		init = append(init, s.initContainer())
	} else if targets := s.targets(); len(targets) > 0 {
		init = append(init, s.validationContainer(targets))
	}
	if s.native {
		return append(init, s.container()), nil
	}
	return init, []corev1.Container{s.container()}
}

// status is the value of the annotation sidecar.istio.io/status, in Istio's
// form: what injection put in.
func (s sidecar) status() string {
	status := struct {
		InitContainers   []string `json:"initContainers"`
		Containers       []string `json:"containers"`
		Volumes          []string `json:"volumes"`
		ImagePullSecrets []string `json:"imagePullSecrets"`
		Revision         string   `json:"revision"`
	}{Volumes: []string{tokenVolume, rootsVolume}, ImagePullSecrets: s.cfg.ImagePullSecrets, Revision: s.cfg.Revision}
	if status.Revision == "" {
		status.Revision = "default"
	}
	init, beside := s.containers()
	for _, c := range init {
		status.InitContainers = append(status.InitContainers, c.Name)
	}
	for _, c := range beside {
		status.Containers = append(status.Containers, c.Name)
	}
	b, err := json.Marshal(status)
	if err != nil {
		panic(fmt.Sprintf("inject: the status of a sidecar: %v", err)) // strings only
	}
	return string(b)
}
