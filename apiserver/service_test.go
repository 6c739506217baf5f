package apiserver_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

func client(t *testing.T) *kubernetes.Clientset {
	c, err := kubernetes.NewForConfig(shared.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestServiceAddresses(t *testing.T) {
	c := client(t).CoreV1().Services("default")
	s, err := c.Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "boards"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 8080}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(s.Spec)
}
