package source_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hasp/compile"
	"hasp/source"
)

// city is a cluster: pods with sidecars, in ten namespaces, evenly behind
// services.
func city(pods, services int) *source.Objects {
	o := &source.Objects{}
	namespace := func(i int) string { return fmt.Sprintf("ns-%d", i%10) }
	for i := range services {
		app := map[string]string{"app": fmt.Sprintf("app-%d", i)}
		o.Services = append(o.Services, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace(i), Name: fmt.Sprintf("app-%d", i), UID: types.UID(fmt.Sprint("s", i))},
			Spec: corev1.ServiceSpec{ClusterIP: fmt.Sprintf("10.96.%d.%d", i/250, i%250+1), Selector: app,
				Ports: []corev1.ServicePort{{Name: "http", Port: 8080}, {Name: "grpc", Port: 9090}}},
		})
	}
	for i := range pods {
		s := i % services
		o.Pods = append(o.Pods, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace(s), Name: fmt.Sprintf("pod-%d", i), UID: types.UID(fmt.Sprint("p", i)),
				Labels: map[string]string{"app": fmt.Sprintf("app-%d", s), "pod-template-hash": "5d4f"}},
			Spec: corev1.PodSpec{ServiceAccountName: fmt.Sprintf("app-%d", s), InitContainers: []corev1.Container{{Name: "istio-proxy"}}, Containers: []corev1.Container{{Name: "app"}}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: fmt.Sprintf("10.%d.%d.%d", 1+i/62500, i/250%250, i%250+1)}},
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		})
	}
	return o
}

// BenchmarkBuild: a World of 1,000 pods behind 300 services.
func BenchmarkBuild(b *testing.B) {
	o := city(1000, 300)
	for b.Loop() {
		source.Build(o, "")
	}
}

// BenchmarkCompile: the configuration of one of the 1,000 proxies.
func BenchmarkCompile(b *testing.B) {
	w, _ := source.Build(city(1000, 300), "")
	for b.Loop() {
		compile.For(w, w.Workloads[0])
	}
}
