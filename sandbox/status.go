package sandbox

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// status is what the API server is told of the pod, given what it knows.
func (p *pod) status(old corev1.PodStatus) corev1.PodStatus {
	p.mu.Lock()
	s := corev1.PodStatus{
		ObservedGeneration: p.obj.Generation,
		StartTime:          p.started, HostIP: Gateway.String(), HostIPs: []corev1.HostIP{{IP: Gateway.String()}, {IP: Gateway6.String()}},
		QOSClass: corev1.PodQOSBestEffort,
	}
	if p.ip4 != "" {
		s.PodIP, s.PodIPs = p.ip4, []corev1.PodIP{{IP: p.ip4}, {IP: p.ip6}}
	}
	members, failed, initialized, policy := p.members, p.failed, p.initial, restartPolicy(p.obj)
	p.mu.Unlock()

	if finished(old.Phase) && len(members) == 0 {
		return old
	}
	if failed != nil && len(members) == 0 {
		return interrupted(old, *failed)
	}
	var proxy []corev1.ContainerStatus
	for _, c := range members {
		switch c.kind {
		case initKind, sidecarKind:
			s.InitContainerStatuses = append(s.InitContainerStatuses, c.status())
		case proxyKind:
			proxy = append(proxy, c.status())
		default:
			s.ContainerStatuses = append(s.ContainerStatuses, c.status())
		}
	}
	// Last, since "kubectl run -i" takes its exit status from the first.
	s.ContainerStatuses = append(s.ContainerStatuses, proxy...)
	s.Phase = phaseOf(members, policy)
	if failed != nil {
		s.Phase, s.Reason, s.Message = corev1.PodFailed, failed.reason, failed.message
	}
	s.Conditions = conditionsOf(s, initialized, old.Conditions)
	return s
}

// interrupted is the status of a pod that cannot go on: its containers are
// taken to have been killed.
func interrupted(old corev1.PodStatus, why failure) corev1.PodStatus {
	s := *old.DeepCopy()
	s.Phase, s.Reason, s.Message = corev1.PodFailed, why.reason, why.message
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range list {
			c := &list[i]
			c.Ready, c.Started = false, new(bool)
			if c.State.Terminated != nil {
				continue
			}
			end := &corev1.ContainerStateTerminated{ExitCode: 137, Reason: why.reason, Message: why.message, FinishedAt: metav1.Now()}
			if c.State.Running != nil {
				end.StartedAt = c.State.Running.StartedAt
			}
			c.State = corev1.ContainerState{Terminated: end}
		}
	}
	s.Conditions = conditionsOf(s, false, old.Conditions)
	return s
}

// phaseOf follows the Kubernetes pod lifecycle: a pod is Pending until a
// container runs, and finished when all of its own have ended and none will be
// restarted. Sidecars do not count.
func phaseOf(members []*container, policy corev1.RestartPolicy) corev1.PodPhase {
	all, over, bad, begun := 0, 0, 0, 0
	for _, c := range members {
		if c.kind != appKind && c.kind != gatewayKind {
			continue
		}
		all++
		st, done := c.condition()
		if st.Waiting == nil || st.Waiting.Reason == crashLoop {
			begun++
		}
		if done && st.Terminated != nil {
			over++
			if st.Terminated.ExitCode != 0 {
				bad++
			}
		}
	}
	switch {
	case all > 0 && over == all && policy != corev1.RestartPolicyAlways:
		if bad > 0 {
			return corev1.PodFailed
		}
		return corev1.PodSucceeded
	case begun > 0:
		return corev1.PodRunning
	}
	return corev1.PodPending
}

func conditionsOf(s corev1.PodStatus, initialized bool, old []corev1.PodCondition) []corev1.PodCondition {
	ready := len(s.ContainerStatuses) > 0 && !finished(s.Phase)
	for _, c := range s.ContainerStatuses {
		ready = ready && c.Ready
	}
	why := ""
	switch {
	case s.Phase == corev1.PodSucceeded:
		why = "PodCompleted"
	case s.Phase == corev1.PodFailed:
		why = "PodFailed"
	case !ready:
		why = "ContainersNotReady"
	}
	out := []corev1.PodCondition{
		condition(corev1.PodScheduled, true, "", old),
		condition(corev1.PodInitialized, initialized, "", old),
		condition(corev1.ContainersReady, ready, why, old),
		condition(corev1.PodReady, ready, why, old),
	}
	// Conditions that others set stay.
	for _, c := range old {
		if find(out, c.Type) == nil {
			out = append(out, c)
		}
	}
	return out
}

func condition(t corev1.PodConditionType, on bool, why string, old []corev1.PodCondition) corev1.PodCondition {
	c := corev1.PodCondition{Type: t, Status: corev1.ConditionFalse, Reason: why, LastTransitionTime: metav1.Now()}
	if on {
		c.Status = corev1.ConditionTrue
	}
	if before := find(old, t); before != nil && before.Status == c.Status {
		c.LastTransitionTime = before.LastTransitionTime
	}
	return c
}

func find(list []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range list {
		if list[i].Type == t {
			return &list[i]
		}
	}
	return nil
}

func sameStatus(a, b corev1.PodStatus) bool { return equality.Semantic.DeepEqual(a, b) }

// outcome of a write to the API server.
type outcome int

const (
	written  outcome = iota
	outdated         // somebody else wrote in between
	noObject         // there is nothing to write to
	refused
)

func writeOutcome(err error) outcome {
	switch {
	case err == nil:
		return written
	case apierrors.IsConflict(err):
		return outdated
	case apierrors.IsNotFound(err):
		return noObject
	}
	return refused
}
