package apiserver_test

import (
	"io"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

func newPod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:1"}}}}
}

func createPod(t *testing.T, pods typedcorev1.PodInterface, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	p, err := pods.Create(t.Context(), p, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(pods, p.Name) })
	return p
}

func remove(pods typedcorev1.PodInterface, name string) error {
	now := int64(0)
	return pods.Delete(background, name, metav1.DeleteOptions{GracePeriodSeconds: &now})
}

func TestPodDefaults(t *testing.T) {
	pods := client(t).CoreV1().Pods("default")
	p := newPod("defaults")
	p.Status.Phase = corev1.PodRunning // not the creator's to say
	p = createPod(t, pods, p)
	s := p.Spec
	for what, ok := range map[string]bool{
		"restartPolicy":          s.RestartPolicy == corev1.RestartPolicyAlways,
		"dnsPolicy":              s.DNSPolicy == corev1.DNSClusterFirst,
		"serviceAccountName":     s.ServiceAccountName == "default",
		"nodeName":               s.NodeName == "test-node",
		"grace period":           *s.TerminationGracePeriodSeconds == 30,
		"imagePullPolicy":        s.Containers[0].ImagePullPolicy == corev1.PullIfNotPresent,
		"terminationMessagePath": s.Containers[0].TerminationMessagePath == "/dev/termination-log",
		"phase":                  p.Status.Phase == corev1.PodPending,
		"generation":             p.Generation == 1,
	} {
		if !ok {
			t.Errorf("default of %s is wrong in %+v", what, p)
		}
	}
}

// Status and spec have a writer each, and only the spec counts generations.
func TestPodUpdates(t *testing.T) {
	pods := client(t).CoreV1().Pods("default")
	p := createPod(t, pods, newPod("updates"))

	p.Status.Phase, p.Spec.Containers[0].Image = corev1.PodRunning, "other"
	p, err := pods.UpdateStatus(t.Context(), p, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Spec.Containers[0].Image != "app:1" || p.Status.Phase != corev1.PodRunning || p.Generation != 1 {
		t.Errorf("after a status update: image %s, phase %s, generation %d", p.Spec.Containers[0].Image, p.Status.Phase, p.Generation)
	}
	p.Status.Phase, p.Spec.Containers[0].Image = corev1.PodFailed, "app:2"
	if p, err = pods.Update(t.Context(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if p.Spec.Containers[0].Image != "app:2" || p.Status.Phase != corev1.PodRunning || p.Generation != 2 {
		t.Errorf("after a spec update: image %s, phase %s, generation %d", p.Spec.Containers[0].Image, p.Status.Phase, p.Generation)
	}
	p.Spec.ServiceAccountName = "other"
	_, err = pods.Update(t.Context(), p, metav1.UpdateOptions{})
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec: Forbidden: pod updates may not change fields other than") {
		t.Errorf("a change of the service account: %v", err)
	}
}

// A pod that runs is marked first and goes when whoever runs it says so; one
// that does not run goes at once.
func TestPodDeletion(t *testing.T) {
	pods := client(t).CoreV1().Pods("default")
	createPod(t, pods, newPod("graceful"))
	if err := pods.Delete(t.Context(), "graceful", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	p, err := pods.Get(t.Context(), "graceful", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if p.DeletionTimestamp == nil || *p.DeletionGracePeriodSeconds != 30 {
		t.Errorf("a deleted pod has deletionTimestamp %v, grace period %v", p.DeletionTimestamp, p.DeletionGracePeriodSeconds)
	}
	if err := remove(pods, "graceful"); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(t.Context(), "graceful", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after a delete without grace: %v", err)
	}

	p = createPod(t, pods, newPod("finished"))
	p.Status.Phase = corev1.PodSucceeded
	if _, err := pods.UpdateStatus(t.Context(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := pods.Delete(t.Context(), "finished", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(t.Context(), "finished", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a finished pod after its delete: %v", err)
	}
}

func TestPodSelectors(t *testing.T) {
	pods := client(t).CoreV1().Pods("default")
	createPod(t, pods, newPod("selected"))
	for selector, want := range map[string]int{
		"metadata.name=selected,status.phase=Pending":       1,
		"metadata.name=selected,status.phase!=Pending":      0,
		"metadata.name=selected,spec.nodeName=test-node":    1,
		"metadata.name=selected,spec.nodeName=other":        0,
		"metadata.name=selected,metadata.namespace=default": 1,
	} {
		l, err := pods.List(t.Context(), metav1.ListOptions{FieldSelector: selector})
		if err != nil || len(l.Items) != want {
			t.Errorf("%s: %d pods, %v; want %d", selector, len(l.Items), err, want)
		}
	}
	if _, err := pods.List(t.Context(), metav1.ListOptions{FieldSelector: "spec.color=red"}); !apierrors.IsBadRequest(err) {
		t.Errorf("an unknown field: %v; want BadRequest", err)
	}
}

// Two appliers share a list whose items have a key of two fields.
func TestServerSideApply(t *testing.T) {
	pods := client(t).CoreV1().Pods("default")
	base := func() *applycorev1.PodApplyConfiguration {
		return applycorev1.Pod("applied", "default")
	}
	p, err := pods.Apply(t.Context(), base().WithSpec(applycorev1.PodSpec().WithContainers(
		applycorev1.Container().WithName("app").WithImage("app:1").WithPorts(
			applycorev1.ContainerPort().WithContainerPort(53),
			applycorev1.ContainerPort().WithContainerPort(53).WithProtocol(corev1.ProtocolUDP)))),
		metav1.ApplyOptions{FieldManager: "one"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(pods, "applied") })
	if n := len(p.Spec.Containers[0].Ports); n != 2 {
		t.Errorf("%d ports, want 53/TCP and 53/UDP", n)
	}
	p, err = pods.Apply(t.Context(), base().WithLabels(map[string]string{"team": "b"}), metav1.ApplyOptions{FieldManager: "two"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Labels["team"] != "b" || len(p.Spec.Containers) != 1 {
		t.Errorf("the second applier changed what it does not own: %v", p)
	}
	_, err = pods.Apply(t.Context(), base().WithSpec(applycorev1.PodSpec().WithContainers(applycorev1.Container().WithName("app").WithImage("app:2"))), metav1.ApplyOptions{FieldManager: "two"})
	if !apierrors.IsConflict(err) {
		t.Errorf("the second applier takes the first one's image: %v; want Conflict", err)
	}
}

func TestLogs(t *testing.T) {
	pods := client(t).CoreV1().Pods("default")
	p := newPod("logged")
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "side", Image: "side"})
	createPod(t, pods, p)
	r, err := pods.GetLogs("logged", &corev1.PodLogOptions{Container: "side", Follow: true}).Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "log of default/logged side follow=true\n" {
		t.Errorf("got %q, %v", b, err)
	}
	_, err = pods.GetLogs("logged", &corev1.PodLogOptions{}).Stream(t.Context())
	if want := "a container name must be specified for pod logged, choose one of: [app side]"; err == nil || err.Error() != want {
		t.Errorf("no container named: got %v, want %s", err, want)
	}
}
