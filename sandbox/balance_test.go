package sandbox

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func testService(name, app string, port corev1.ServicePort, ips ...string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns},
		Spec:       corev1.ServiceSpec{ClusterIP: ips[0], ClusterIPs: ips, Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{port}},
	}
}

func testPod(name, app string, ready bool, ips ...string) *corev1.Pod {
	p := simplePod(name)
	p.Labels["app"] = app
	p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "dns", ContainerPort: 5353, Protocol: corev1.ProtocolUDP}}
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ips[0]}
	for _, ip := range ips {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	c := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse}
	if ready {
		c.Status = corev1.ConditionTrue
	}
	p.Status.Conditions = []corev1.PodCondition{c}
	return p
}

func TestBalanceOf(t *testing.T) {
	named := corev1.ServicePort{Port: 80, TargetPort: intstr.FromString("http")}
	a := testPod("a", "web", true, "10.77.0.2", "fd77::2")
	b := testPod("b", "web", true, "10.77.0.3", "fd77::3")
	sick := testPod("sick", "web", false, "10.77.0.4", "fd77::4")
	done := testPod("done", "web", true, "10.77.0.5")
	done.Status.Phase = corev1.PodSucceeded
	going := testPod("going", "web", true, "10.77.0.6")
	going.DeletionTimestamp = &metav1.Time{}
	elsewhere := testPod("elsewhere", "web", true, "10.77.0.7")
	elsewhere.Namespace = "other"
	pods := []*corev1.Pod{b, a, sick, done, going, elsewhere}

	lenient := testService("lenient", "web", named, "10.96.0.2")
	lenient.Spec.PublishNotReadyAddresses = true
	noSelector := testService("manual", "web", named, "10.96.0.9")
	noSelector.Spec.Selector = nil

	for _, c := range []struct {
		name string
		svc  *corev1.Service
		want string
	}{
		{"named port, both families", testService("web", "web", named, "10.96.0.1", "fd96::1"),
			"TCP 10.96.0.1:80 -> [10.77.0.2:8080 10.77.0.3:8080]\nTCP [fd96::1]:80 -> [[fd77::2]:8080 [fd77::3]:8080]\n"},
		{"target port defaults to the port", testService("web", "web", corev1.ServicePort{Port: 80}, "10.96.0.1"),
			"TCP 10.96.0.1:80 -> [10.77.0.2:80 10.77.0.3:80]\n"},
		{"number", testService("web", "web", corev1.ServicePort{Port: 80, TargetPort: intstr.FromInt32(81)}, "10.96.0.1"),
			"TCP 10.96.0.1:80 -> [10.77.0.2:81 10.77.0.3:81]\n"},
		{"UDP by name", testService("dns", "web", corev1.ServicePort{Port: 53, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromString("dns")}, "10.96.0.1"),
			"UDP 10.96.0.1:53 -> [10.77.0.2:5353 10.77.0.3:5353]\n"},
		{"a name of the other protocol", testService("dns", "web", corev1.ServicePort{Port: 53, TargetPort: intstr.FromString("dns")}, "10.96.0.1"),
			"TCP 10.96.0.1:53 -> nobody\n"},
		{"SCTP is not balanced", testService("s", "web", corev1.ServicePort{Port: 1, Protocol: corev1.ProtocolSCTP}, "10.96.0.1"), ""},
		{"not ready ones too", lenient, "TCP 10.96.0.2:80 -> [10.77.0.2:8080 10.77.0.3:8080 10.77.0.4:8080 10.77.0.6:8080]\n"},
		{"nobody", testService("none", "other", named, "10.96.0.3"), "TCP 10.96.0.3:80 -> nobody\n"},
		{"headless", testService("peers", "web", named, corev1.ClusterIPNone), ""},
		{"no selector", noSelector, "TCP 10.96.0.9:80 -> nobody\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, balanceOf([]*corev1.Service{c.svc}, pods).String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
