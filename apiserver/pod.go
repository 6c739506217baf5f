package apiserver

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func podKind(node string) anyKind {
	return kind[corev1.Pod]{
		gv: corev1.SchemeGroupVersion, resource: "pods", singular: "pod", shortNames: []string{"po"}, categories: []string{"all"},
		newObject: func() runtime.Object { return &corev1.Pod{} },
		newList:   func() runtime.Object { return &corev1.PodList{} },
		defaults:  func(p *corev1.Pod) { defaultPodSpec(&p.Spec) },
		create: func(p *corev1.Pod) {
			p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBestEffort}
			orDefault(&p.Spec.ServiceAccountName, "default")
			p.Spec.DeprecatedServiceAccount = p.Spec.ServiceAccountName
			orDefault(&p.Spec.NodeName, node)
		},
		validate:       func(p *corev1.Pod) field.ErrorList { return validatePodSpec(&p.Spec, field.NewPath("spec")) },
		validateUpdate: validatePodUpdate,
		spec:           func(p *corev1.Pod) any { return p.Spec },
		keepStatus:     func(to, from *corev1.Pod) { to.Status = from.Status },
		keepSpec:       func(to, from *corev1.Pod) { to.Spec, to.OwnerReferences = from.Spec, from.OwnerReferences },
		fields: func(p *corev1.Pod) fields.Set {
			return fields.Set{"spec.nodeName": p.Spec.NodeName, "spec.restartPolicy": string(p.Spec.RestartPolicy),
				"spec.serviceAccountName": p.Spec.ServiceAccountName, "status.phase": string(p.Status.Phase), "status.podIP": p.Status.PodIP}
		},
		grace:   podGrace,
		columns: columns("Name", "Ready", "Status", "Restarts", "Age", "|", "IP", "Node", "Nominated Node", "Readiness Gates"),
		row:     podRow,
	}
}

// podGrace gives whoever runs the pod time to end it, unless nobody does.
func podGrace(p *corev1.Pod, opts *metav1.DeleteOptions) {
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = *s
	}
	if opts.GracePeriodSeconds != nil {
		grace = *opts.GracePeriodSeconds
	}
	if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		grace = 0
	}
	opts.GracePeriodSeconds = &grace
}

// validatePodUpdate: a process that runs keeps what it was started with.
func validatePodUpdate(n, o *corev1.Pod) field.ErrorList {
	was := o.Spec.DeepCopy()
	for i := range min(len(was.Containers), len(n.Spec.Containers)) {
		was.Containers[i].Image = n.Spec.Containers[i].Image
	}
	for i := range min(len(was.InitContainers), len(n.Spec.InitContainers)) {
		was.InitContainers[i].Image = n.Spec.InitContainers[i].Image
	}
	was.ActiveDeadlineSeconds = n.Spec.ActiveDeadlineSeconds
	was.TerminationGracePeriodSeconds = n.Spec.TerminationGracePeriodSeconds
	was.Tolerations = n.Spec.Tolerations
	if !equal(*was, n.Spec) {
		return field.ErrorList{field.Forbidden(field.NewPath("spec"), "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations`,`spec.terminationGracePeriodSeconds`")}
	}
	return nil
}

func podRow(p *corev1.Pod) []any {
	ready, restarts := 0, int32(0)
	for _, c := range p.Status.ContainerStatuses {
		restarts += c.RestartCount
		if c.Ready && c.State.Running != nil {
			ready++
		}
	}
	return []any{p.Name, fmt.Sprintf("%d/%d", ready, max(len(p.Spec.Containers), len(p.Status.ContainerStatuses))), podReason(p), fmt.Sprint(restarts), age(p),
		orNone(podIPs(p)), orNone(p.Spec.NodeName), orNone(p.Status.NominatedNodeName), "<none>"}
}

func podIPs(p *corev1.Pod) string {
	if len(p.Status.PodIPs) > 0 {
		return p.Status.PodIPs[0].IP
	}
	return p.Status.PodIP
}

// podReason is the STATUS column: the most telling word about the pod.
func podReason(p *corev1.Pod) string {
	if p.DeletionTimestamp != nil {
		return "Terminating"
	}
	for i, c := range p.Status.InitContainerStatuses {
		if why := stateReason(c.State); why != "" && why != "Completed" {
			return "Init:" + why
		} else if why == "" && c.Started == nil || c.Started != nil && !*c.Started {
			return fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
	}
	reason := p.Status.Reason
	if reason == "" {
		reason = string(p.Status.Phase)
	}
	running := false
	for _, c := range p.Status.ContainerStatuses {
		if why := stateReason(c.State); why != "" {
			reason = why
		}
		running = running || c.Ready && c.State.Running != nil
	}
	if reason == "Completed" && running {
		return "NotReady"
	}
	return reason
}

// stateReason is empty for a container that runs.
func stateReason(s corev1.ContainerState) string {
	switch {
	case s.Waiting != nil:
		return s.Waiting.Reason
	case s.Terminated == nil:
		return ""
	case s.Terminated.Reason != "":
		return s.Terminated.Reason
	case s.Terminated.Signal != 0:
		return fmt.Sprintf("Signal:%d", s.Terminated.Signal)
	default:
		return fmt.Sprintf("ExitCode:%d", s.Terminated.ExitCode)
	}
}

// containerOf is the container a log or an attach is for when the caller names
// none: the annotated one, or the only one. Its message names the choices.
func containerOf(p *corev1.Pod, name string) (string, error) {
	var names []string
	for _, c := range append(p.Spec.InitContainers[:len(p.Spec.InitContainers):len(p.Spec.InitContainers)], p.Spec.Containers...) {
		if c.Name == name {
			return name, nil
		}
		names = append(names, c.Name)
	}
	// A sidecar that was added to the pod is in its status alone.
	for _, c := range p.Status.ContainerStatuses {
		if name != "" && c.Name == name {
			return name, nil
		}
	}
	if name != "" {
		return "", fmt.Errorf("container %s is not valid for pod %s", name, p.Name)
	}
	if d := p.Annotations["kubectl.kubernetes.io/default-container"]; d != "" {
		return containerOf(p, d)
	}
	if len(p.Spec.Containers) == 1 {
		return p.Spec.Containers[0].Name, nil
	}
	return "", fmt.Errorf("a container name must be specified for pod %s, choose one of: [%s]", p.Name, strings.Join(names, " "))
}
