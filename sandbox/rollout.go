package sandbox

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// rolloutStep is what to do next for a Deployment.
type rolloutStep struct {
	create int
	remove []*corev1.Pod
}

// rollout decides the next step, as a Deployment's strategy says: never more
// pods than replicas and the surge, never fewer ready ones than replicas
// without those that may be unavailable; finished pods do not count and go.
func rollout(dep *appsv1.Deployment, pods []*corev1.Pod) rolloutStep {
	var step rolloutStep
	want := replicasOf(dep)
	hash := templateHash(dep)
	var current, old []*corev1.Pod
	ready := 0
	for _, p := range pods {
		switch {
		case p.DeletionTimestamp != nil:
			continue
		case finished(p.Status.Phase):
			step.remove = append(step.remove, p)
			continue
		case p.Labels[hashLabel] == hash:
			current = append(current, p)
		default:
			old = append(old, p)
		}
		if isReady(p) {
			ready++
		}
	}
	if dep.Spec.Paused {
		return step
	}
	surge, unavailable := bounds(dep, want)
	if dep.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		surge, unavailable = 0, want
	}
	step.create = max(0, min(want-len(current), want+surge-len(current)-len(old)))
	if dep.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType && len(old) > 0 {
		step.create = 0
	}
	if extra := len(current) - want; extra > 0 {
		step.remove = append(step.remove, notReadyFirst(current)[:extra]...)
	}
	// Old pods that are not ready serve nobody and go first.
	mayGo := ready - (want - unavailable)
	for _, p := range notReadyFirst(old) {
		if !isReady(p) {
			step.remove = append(step.remove, p)
		} else if mayGo > 0 {
			step.remove = append(step.remove, p)
			mayGo--
		}
	}
	return step
}

func notReadyFirst(pods []*corev1.Pod) []*corev1.Pod {
	out := slices.Clone(pods)
	slices.SortStableFunc(out, func(a, b *corev1.Pod) int {
		return cmp.Compare(rank(a), rank(b))
	})
	return out
}

func rank(p *corev1.Pod) int {
	if isReady(p) {
		return 1
	}
	return 0
}

func replicasOf(dep *appsv1.Deployment) int {
	if dep.Spec.Replicas == nil {
		return 1
	}
	return int(*dep.Spec.Replicas)
}

// bounds of a rolling update: 25 % each by default, the surge rounded up and
// the unavailable rounded down, and not both 0.
func bounds(dep *appsv1.Deployment, want int) (surge, unavailable int) {
	s, u := intstr.FromString("25%"), intstr.FromString("25%")
	if r := dep.Spec.Strategy.RollingUpdate; r != nil {
		if r.MaxSurge != nil {
			s = *r.MaxSurge
		}
		if r.MaxUnavailable != nil {
			u = *r.MaxUnavailable
		}
	}
	surge, err := intstr.GetScaledValueFromIntOrPercent(&s, want, true)
	if err != nil {
		surge = 1
	}
	unavailable, err = intstr.GetScaledValueFromIntOrPercent(&u, want, false)
	if err != nil {
		unavailable = 0
	}
	if surge <= 0 && unavailable <= 0 {
		unavailable = 1
	}
	return surge, unavailable
}
