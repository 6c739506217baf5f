package apiserver_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A Namespace that is being deleted takes nothing new, waits for its pods, and
// is gone with everything in it when they are.
func TestNamespaceDeletion(t *testing.T) {
	c := client(t)
	if _, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "leaving"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods := c.CoreV1().Pods("leaving")
	if _, err := pods.Create(t.Context(), newPod("slow"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "content"}}
	if _, err := c.CoreV1().ConfigMaps("leaving").Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.CoreV1().Namespaces().Delete(t.Context(), "leaving", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := c.CoreV1().ConfigMaps("leaving").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "late"}}, metav1.CreateOptions{})
	if want := `configmaps "late" is forbidden: unable to create new content in namespace leaving because it is being terminated`; err == nil || err.Error() != want {
		t.Errorf("create in it: %v, want %s", err, want)
	}
	eventually(t, "the pod is asked to end", func() bool {
		p, err := pods.Get(t.Context(), "slow", metav1.GetOptions{})
		return err == nil && p.DeletionTimestamp != nil
	})
	n, err := c.CoreV1().Namespaces().Get(t.Context(), "leaving", metav1.GetOptions{})
	if err != nil || n.DeletionTimestamp == nil {
		t.Errorf("while its pod ends: %v, %v", n, err)
	}
	if err := remove(pods, "slow"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace is gone", func() bool {
		_, err := c.CoreV1().Namespaces().Get(t.Context(), "leaving", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	if _, err := c.CoreV1().ConfigMaps("leaving").Get(t.Context(), "content", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("its content: %v", err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if ok() {
			return
		}
		<-time.After(10 * time.Millisecond) // the server decides when
	}
	t.Fatalf("after a minute it is still not so that %s", what)
}
