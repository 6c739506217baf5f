package apiserver_test

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

var background = context.Background() // for cleaning up after a test's own context

func client(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	c, err := kubernetes.NewForConfig(shared.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func service(name string, change ...func(*corev1.ServiceSpec)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 8080}}}}
	for _, f := range change {
		f(&s.Spec)
	}
	return s
}

func TestServiceAddresses(t *testing.T) {
	services := client(t).CoreV1().Services("default")
	one := corev1.IPFamilyPolicySingleStack
	for _, c := range []struct {
		name   string
		change func(*corev1.ServiceSpec)
		ips    []string
		err    string
	}{
		{"both-families", func(*corev1.ServiceSpec) {}, []string{"10.96.152.114", "fd96::9872"}, ""},
		{"headless", func(s *corev1.ServiceSpec) { s.ClusterIP = "None" }, []string{"None"}, ""},
		{"external", func(s *corev1.ServiceSpec) { s.Type, s.ExternalName = "ExternalName", "example.com" }, nil, ""},
		{"asked", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.10" }, []string{"10.96.0.10", "fd96::686b"}, ""},
		{"asked-both", func(s *corev1.ServiceSpec) { s.ClusterIPs = []string{"10.96.0.11", "fd96::b"} }, []string{"10.96.0.11", "fd96::b"}, ""},
		{"six-first", func(s *corev1.ServiceSpec) { s.ClusterIP = "fd96::c" }, []string{"fd96::c", "10.96.82.201"}, ""},
		{"one-family", func(s *corev1.ServiceSpec) { s.IPFamilyPolicy = &one }, []string{"10.96.183.74"}, ""},
		{"taken", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.10" }, nil,
			`Service "taken" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.10"]: failed to allocate IP 10.96.0.10: provided IP is already allocated`},
		{"elsewhere", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.0.0.1" }, nil,
			`Service "elsewhere" is invalid: spec.clusterIPs: Invalid value: ["10.0.0.1"]: failed to allocate IP 10.0.0.1: the provided IP is not in the valid range: it is 10.96.0.0/16 or fd96::/112`},
		{"no-address", func(s *corev1.ServiceSpec) { s.ClusterIP = "ten" }, nil,
			`Service "no-address" is invalid: spec.clusterIPs[0]: Invalid value: "ten": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`},
	} {
		s, err := services.Create(t.Context(), service(c.name, c.change), metav1.CreateOptions{})
		switch {
		case err == nil:
			t.Cleanup(func() { services.Delete(background, c.name, metav1.DeleteOptions{}) })
			if c.err != "" || !slices.Equal(s.Spec.ClusterIPs, c.ips) {
				t.Errorf("%s: addresses %v, want %v %s", c.name, s.Spec.ClusterIPs, c.ips, c.err)
			}
		case err.Error() != c.err:
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
	}
}

// An address belongs to its Service until that is gone, and then to the next.
func TestServiceAddressLifetime(t *testing.T) {
	services := client(t).CoreV1().Services("default")
	create := func(name string, o metav1.CreateOptions) (*corev1.Service, error) {
		return services.Create(t.Context(), service(name, func(s *corev1.ServiceSpec) { s.ClusterIPs = []string{"10.96.0.20", "fd96::14"} }), o)
	}
	if _, err := create("dry", metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Fatal(err)
	}
	first, err := create("first", metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("a dry run keeps its address: %v", err)
	}
	if _, err := create("first", metav1.CreateOptions{}); err == nil {
		t.Error("two Services of one name")
	}
	if _, err := create("second", metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a second Service with the address: %v", err)
	}

	// A manifest without addresses keeps them; another address is refused.
	bare := service("first")
	bare.ResourceVersion = first.ResourceVersion
	if first, err = services.Update(t.Context(), bare, metav1.UpdateOptions{}); err != nil || first.Spec.ClusterIP != "10.96.0.20" || len(first.Spec.ClusterIPs) != 2 {
		t.Errorf("update without addresses: %v, %v", first.Spec.ClusterIPs, err)
	}
	first.Spec.ClusterIPs, first.Spec.ClusterIP = []string{"10.96.0.21", "fd96::14"}, "10.96.0.21"
	if _, err := services.Update(t.Context(), first, metav1.UpdateOptions{}); err == nil || err.Error() != `Service "first" is invalid: spec.clusterIPs[0]: Invalid value: ["10.96.0.21","fd96::14"]: may not change once set` {
		t.Errorf("update of the address: %v", err)
	}

	// As an ExternalName it needs none, so that another one can have it.
	first.Spec.ClusterIP, first.Spec.ClusterIPs, first.Spec.Type, first.Spec.ExternalName = "", nil, corev1.ServiceTypeExternalName, "example.com"
	if first, err = services.Update(t.Context(), first, metav1.UpdateOptions{}); err != nil || first.Spec.ClusterIP != "" {
		t.Fatalf("turned into an ExternalName: %v, %v", first.Spec, err)
	}
	if _, err := create("second", metav1.CreateOptions{}); err != nil {
		t.Errorf("the address of an ExternalName is still taken: %v", err)
	}
	for _, name := range []string{"first", "second"} {
		if err := services.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := create("third", metav1.CreateOptions{}); err != nil {
		t.Errorf("the address of a deleted Service is still taken: %v", err)
	}
	services.Delete(t.Context(), "third", metav1.DeleteOptions{})
}
