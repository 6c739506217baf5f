package source_test

import (
	"fmt"
	"testing"

	networkingapi "istio.io/api/networking/v1alpha3"
	securityapi "istio.io/api/security/v1beta1"
	networking "istio.io/client-go/pkg/apis/networking/v1"
	security "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hasp/compile"
	"hasp/source"
)

// city is a cluster: pods with sidecars, in ten namespaces or more so that one has 50 services, evenly behind
// services, each namespace STRICT and every third service with a rule.
func city(pods, services int) *source.Objects {
	o := &source.Objects{}
	namespace := func(i int) string { return fmt.Sprintf("ns-%d", i%max(10, services/50)) }
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
	for i := range 10 {
		o.PeerAuthentications = append(o.PeerAuthentications, &security.PeerAuthentication{ObjectMeta: metav1.ObjectMeta{Namespace: namespace(i), Name: "default"},
			Spec: securityapi.PeerAuthentication{Mtls: &securityapi.PeerAuthentication_MutualTLS{Mode: securityapi.PeerAuthentication_MutualTLS_STRICT}}})
	}
	for i := range services / 3 {
		o.DestinationRules = append(o.DestinationRules, &networking.DestinationRule{ObjectMeta: metav1.ObjectMeta{Namespace: namespace(i), Name: fmt.Sprintf("app-%d", i)},
			Spec: networkingapi.DestinationRule{Host: fmt.Sprintf("app-%d", i)}})
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

// BenchmarkCompile: the configurations of all 1,000 proxies.
func BenchmarkCompile(b *testing.B) {
	w, _ := source.Build(city(1000, 300), "")
	for b.Loop() {
		c := compile.New(w)
		for _, wl := range w.Workloads {
			c.For(wl)
		}
	}
}

// BenchmarkEqual: whether a World of 1,000 pods is a new one.
func BenchmarkEqual(b *testing.B) {
	o := city(1000, 300)
	w, _ := source.Build(o, "")
	again, _ := source.Build(o, "")
	for b.Loop() {
		if !w.Equal(again) {
			b.Fatal("the same objects make another World")
		}
	}
}

// BenchmarkChange: the next World of 50,000 pods behind 10,000 services when one pod
// is ready no more, or again.
func BenchmarkChange(b *testing.B) {
	o := city(50_000, 10_000)
	builder := source.NewBuilder("")
	for _, p := range o.Pods {
		builder.Set(p)
	}
	for _, s := range o.Services {
		builder.Set(s)
	}
	last := builder.Build()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p := o.Pods[i%len(o.Pods)].DeepCopy()
		p.Status.Conditions[0].Status = corev1.ConditionFalse
		if i%2 == 1 {
			p = o.Pods[(i-1)%len(o.Pods)]
		}
		builder.Set(p)
		next := builder.Build()
		if last.World.Equal(next.World) {
			b.Fatal("the change changed nothing")
		}
		last = next
	}
}
