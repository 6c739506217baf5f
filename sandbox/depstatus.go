package sandbox

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// writeStatus tells the API server how far a Deployment is.
func (d deployments) writeStatus(ctx context.Context, dep *appsv1.Deployment, pods []*corev1.Pod) error {
	next := dep.DeepCopy()
	next.Status = deploymentStatus(dep, pods)
	if equality.Semantic.DeepEqual(dep.Status, next.Status) {
		return nil
	}
	_, err := d.client.AppsV1().Deployments(dep.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
	switch writeOutcome(err) {
	case outdated, noObject: // the watch brings the newer one
		return nil
	}
	return err
}

// deploymentStatus is what "kubectl get deployment" and "kubectl rollout
// status" go by.
func deploymentStatus(dep *appsv1.Deployment, pods []*corev1.Pod) appsv1.DeploymentStatus {
	s := appsv1.DeploymentStatus{ObservedGeneration: dep.Generation, CollisionCount: dep.Status.CollisionCount}
	hash := templateHash(dep)
	for _, p := range pods {
		if p.DeletionTimestamp != nil || finished(p.Status.Phase) {
			continue
		}
		s.Replicas++
		if p.Labels[hashLabel] == hash {
			s.UpdatedReplicas++
		}
		if isReady(p) {
			s.ReadyReplicas++
			s.AvailableReplicas++
		}
	}
	want := int32(replicasOf(dep))
	s.UnavailableReplicas = max(0, want-s.AvailableReplicas)
	_, unavailable := bounds(dep, int(want))
	available := s.AvailableReplicas >= want-int32(unavailable)
	done := s.UpdatedReplicas == want && s.Replicas == want && s.AvailableReplicas == want

	reason, message := "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
	if available {
		reason, message = "MinimumReplicasAvailable", "Deployment has minimum availability."
	}
	s.Conditions = append(s.Conditions, deploymentCondition(dep, appsv1.DeploymentAvailable, available, reason, message))
	reason, message = "ReplicaSetUpdated", fmt.Sprintf("Deployment %q is progressing.", dep.Name)
	if done {
		reason, message = "NewReplicaSetAvailable", fmt.Sprintf("Deployment %q has successfully progressed.", dep.Name)
	}
	s.Conditions = append(s.Conditions, deploymentCondition(dep, appsv1.DeploymentProgressing, true, reason, message))
	return s
}

func deploymentCondition(dep *appsv1.Deployment, t appsv1.DeploymentConditionType, on bool, reason, message string) appsv1.DeploymentCondition {
	c := appsv1.DeploymentCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message, LastUpdateTime: metav1.Now(), LastTransitionTime: metav1.Now()}
	if on {
		c.Status = corev1.ConditionTrue
	}
	for _, old := range dep.Status.Conditions {
		if old.Type != t {
			continue
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		if old.Status == c.Status && old.Reason == c.Reason {
			c.LastUpdateTime = old.LastUpdateTime
		}
	}
	return c
}
