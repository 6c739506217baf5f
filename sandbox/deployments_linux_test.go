package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// podsNow are a Deployment's pods as "hash ready" words.
func (w *world) podsNow() []string {
	list, err := w.client.CoreV1().Pods(ns).List(w.t.Context(), metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, p := range list.Items {
		out = append(out, fmt.Sprintf("%s %t", p.Labels[hashLabel], isReady(&p)))
	}
	slices.Sort(out)
	return out
}

func (w *world) untilPods(what string, want ...string) {
	w.t.Helper()
	slices.Sort(want)
	w.eventually(what, func() bool { return slices.Equal(w.podsNow(), want) }, func() string { return strings.Join(w.podsNow(), ", ") })
}

func TestDeployment(t *testing.T) {
	w := newWorld(t, meshed(t, nil))
	api := w.client.AppsV1().Deployments(ns)
	d := testDeployment(2)
	d.Spec.Template.Annotations = map[string]string{"sidecar.istio.io/inject": "true"}
	d, err := api.Create(t.Context(), d, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	first := templateHash(d)
	w.untilPods("two pods", first+" true", first+" true")
	list, err := w.client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := list.Items[0]
	if owner := metav1.GetControllerOf(&p); owner == nil || owner.Kind != "Deployment" || owner.Name != "web" || !strings.HasPrefix(p.Name, "web-"+first+"-") {
		t.Errorf("pod %s of %+v", p.Name, owner)
	}
	if len(p.Spec.Containers) != 2 || p.Spec.Containers[1].Name != ProxyContainer || p.Annotations["kubectl.kubernetes.io/default-container"] != "main" {
		t.Errorf("the pod was not injected: %+v", p.Spec.Containers)
	}
	var status appsv1.DeploymentStatus
	w.eventually("status", func() bool {
		got, err := api.Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		status = got.Status
		return status.AvailableReplicas == 2 && status.Replicas == 2 && status.Conditions[1].Reason == "NewReplicaSetAvailable"
	}, func() string { return fmt.Sprintf("%+v", status) })

	change := func(f func(*appsv1.Deployment)) string {
		t.Helper()
		d, err := api.Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		f(d)
		if d, err = api.Update(t.Context(), d, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		return templateHash(d)
	}
	second := change(func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "VERSION", Value: "2"}}
	})
	w.untilPods("both replaced", second+" true", second+" true")
	change(func(d *appsv1.Deployment) { one := int32(1); d.Spec.Replicas = &one })
	w.untilPods("scaled", second+" true")
	if err := w.client.CoreV1().Pods(ns).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	w.untilPods("replaced what was deleted", second+" true")
	if err := api.Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.untilPods("collected")
}
