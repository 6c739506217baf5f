package cluster

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
)

// TestFollowNamed: what is there is shown at first, and every change after it.
func TestFollowNamed(t *testing.T) {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: "settings"}, Data: map[string]string{"n": "1"}}
	client := fake.NewClientset(m)
	ctx, stop := context.WithCancel(t.Context())
	shown := make(chan string, 10)
	done := make(chan error, 1)
	go func() {
		maps := func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
			return f.Core().V1().ConfigMaps().Informer()
		}
		done <- followNamed(ctx, client, maps, []string{"settings"}, func(stores []cache.Store) {
			for _, v := range stores[0].List() {
				shown <- v.(*corev1.ConfigMap).Data["n"]
			}
		})
	}()
	see := func(want string) {
		t.Helper()
		deadline := time.After(time.Minute)
		for {
			select {
			case got := <-shown:
				if got == want {
					return
				}
			case <-deadline:
				t.Fatalf("%s was not shown", want)
			}
		}
	}
	see("1")
	next := m.DeepCopy()
	next.Data["n"] = "2"
	if _, err := client.CoreV1().ConfigMaps(Namespace).Update(ctx, next, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	see("2")
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
