package sandbox

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Recovered is closed when no Pod claims any more to be ready because of an
// earlier run of the sandbox. Until then readiness in the API means nothing.
func (s *Sandbox) Recovered() <-chan struct{} { return s.recovered }

// disown takes readiness and addresses from the Pods of an earlier run: their
// processes died with it, and nobody must be sent there until they run again.
func (s *Sandbox) disown(ctx context.Context) error {
	list, err := s.cfg.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("sandbox: pods of an earlier run: %w", err)
	}
	for i := range list.Items {
		p := &list.Items[i]
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || p.Status.PodIP == "" {
			continue
		}
		p.Status.PodIP, p.Status.PodIPs = "", nil
		for c := range p.Status.Conditions {
			if t := p.Status.Conditions[c].Type; t == corev1.PodReady || t == corev1.ContainersReady {
				p.Status.Conditions[c].Status = corev1.ConditionFalse
				p.Status.Conditions[c].Reason = "SandboxRestarted"
				p.Status.Conditions[c].LastTransitionTime = metav1.Now()
			}
		}
		_, err := s.cfg.Client.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("sandbox: pod %s/%s of an earlier run: %w", p.Namespace, p.Name, err)
		}
	}
	close(s.recovered)
	return nil
}
