package sandbox

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func testDeployment(replicas int32) *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: ns, UID: "dep"}, Spec: appsv1.DeploymentSpec{Replicas: &replicas}}
	d.Spec.Template.Labels = map[string]string{"app": "web"}
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "main", Image: "local", Command: []string{"sleep", "1000"}}}
	return d
}

// podsOf makes pods from words: n(ew) or o(ld), R(eady) or not, F(inished),
// T(erminating), and a number.
func podsOf(d *appsv1.Deployment, words string) []*corev1.Pod {
	var out []*corev1.Pod
	for _, w := range strings.Fields(words) {
		p := testPod(w, "web", strings.Contains(w, "R"), "10.77.0.2")
		p.Labels[hashLabel] = "old"
		if w[0] == 'n' {
			p.Labels[hashLabel] = templateHash(d)
		}
		if strings.Contains(w, "F") {
			p.Status.Phase = corev1.PodFailed
		}
		if strings.Contains(w, "T") {
			p.DeletionTimestamp = &metav1.Time{}
		}
		out = append(out, p)
	}
	return out
}

func TestRollout(t *testing.T) {
	zero, one, all := intstr.FromInt32(0), intstr.FromInt32(1), intstr.FromString("100%")
	for _, c := range []struct {
		name             string
		replicas         int32
		surge, away      *intstr.IntOrString
		recreate, paused bool
		pods, want       string
	}{
		{name: "first", replicas: 2, want: "create 2"},
		{name: "enough", replicas: 2, pods: "nR1 n2", want: "create 0"},
		{name: "scale up", replicas: 3, pods: "nR1", want: "create 2"},
		{name: "scale down, the one not ready first", replicas: 1, pods: "nR1 n2", want: "create 0 remove n2"},
		{name: "to none", replicas: 0, pods: "nR1", want: "create 0 remove nR1"},
		{name: "new one beside the old", replicas: 1, pods: "oR1", want: "create 1"},
		{name: "old one stays until the new is ready", replicas: 1, pods: "oR1 n2", want: "create 0"},
		{name: "then it goes", replicas: 1, pods: "oR1 nR2", want: "create 0 remove oR1"},
		{name: "an old one that is not ready goes at once", replicas: 2, pods: "oR1 o2", want: "create 1 remove o2"},
		{name: "four: one more, one fewer", replicas: 4, pods: "oR1 oR2 oR3 oR4", want: "create 1 remove oR1"},
		{name: "all at once", replicas: 3, surge: &all, away: &zero, pods: "oR1 oR2 oR3", want: "create 3"},
		{name: "without surge the old go first", replicas: 2, surge: &zero, away: &one, pods: "oR1 oR2", want: "create 0 remove oR1"},
		{name: "neither is read as one away", replicas: 1, surge: &zero, away: &zero, pods: "oR1", want: "create 0 remove oR1"},
		{name: "recreate removes first", replicas: 2, recreate: true, pods: "oR1 oR2", want: "create 0 remove oR1 oR2"},
		{name: "and then creates", replicas: 2, recreate: true, want: "create 2"},
		{name: "finished pods are replaced", replicas: 1, pods: "nRF1", want: "create 1 remove nRF1"},
		{name: "terminating pods do not count", replicas: 1, pods: "nRT1", want: "create 1"},
		{name: "paused", replicas: 2, paused: true, pods: "oR1", want: "create 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := testDeployment(c.replicas)
			d.Spec.Paused = c.paused
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: c.surge, MaxUnavailable: c.away}
			if c.recreate {
				d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
			}
			step := rollout(d, podsOf(d, c.pods))
			got := fmt.Sprint("create ", step.create)
			if len(step.remove) > 0 {
				got += " remove"
			}
			for _, p := range step.remove {
				got += " " + p.Name
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestDeploymentStatus(t *testing.T) {
	d := testDeployment(2)
	d.Generation = 7
	s := deploymentStatus(d, podsOf(d, "nR1 n2 oR3 nF4"))
	if s.ObservedGeneration != 7 || s.Replicas != 3 || s.UpdatedReplicas != 2 || s.ReadyReplicas != 2 || s.UnavailableReplicas != 0 {
		t.Errorf("status %+v", s)
	}
	if c := s.Conditions[0]; c.Type != appsv1.DeploymentAvailable || c.Status != corev1.ConditionTrue {
		t.Errorf("condition %+v", c)
	}
	if c := s.Conditions[1]; c.Reason != "ReplicaSetUpdated" {
		t.Errorf("condition %+v", c)
	}
	if c := deploymentStatus(d, podsOf(d, "nR1 nR2")).Conditions[1]; c.Reason != "NewReplicaSetAvailable" || c.Message != `Deployment "web" has successfully progressed.` {
		t.Errorf("condition %+v", c)
	}
}
