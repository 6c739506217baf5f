package source

import (
	"regexp"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// rolloutHashKey is pod-template-hash in Argo Rollouts.
	rolloutHashKey = "rollouts-pod-template-hash"
	// deploymentConfigKey is how OpenShift names the DeploymentConfig of a pod.
	deploymentConfigKey = "openshift.io/deployment-config.name"
)

// cronRun is the name of a CronJob's Job: the minute it is for comes last.
var cronRun = regexp.MustCompile(`^(.+)-\d{8,11}$`)

// owner is the name of what a person deployed to have the pod: the Deployment
// behind its ReplicaSet, the CronJob behind its Job, else the controller itself
// (StatefulSet, DaemonSet, Job, ...). Names tell, as in Istio, since the objects
// between are not read. Empty for a bare pod, and for a static one, which its
// node owns.
func owner(p *corev1.Pod) string {
	ref := metav1.GetControllerOf(p)
	if ref == nil && len(p.OwnerReferences) > 0 {
		ref = &p.OwnerReferences[0]
	}
	if ref == nil {
		return ""
	}
	switch ref.Kind {
	case "Node":
		return ""
	case "ReplicaSet":
		for _, key := range []string{appsv1.DefaultDeploymentUniqueLabelKey, rolloutHashKey} {
			if name, ok := strings.CutSuffix(ref.Name, "-"+p.Labels[key]); ok && p.Labels[key] != "" && name != "" {
				return name
			}
		}
	case "ReplicationController":
		if name := p.Annotations[deploymentConfigKey]; name != "" {
			return name
		}
	case "Job":
		if m := cronRun.FindStringSubmatch(ref.Name); m != nil {
			return m[1]
		}
	}
	return ref.Name
}
