package inject

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// probed is a pod with one container for each of the probes.
func probed(handlers ...corev1.ProbeHandler) *corev1.Pod {
	p := &corev1.Pod{}
	p.Labels = map[string]string{"sidecar.istio.io/inject": "true"}
	for i, h := range handlers {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
			Name: fmt.Sprintf("c%d", i), ReadinessProbe: &corev1.Probe{ProbeHandler: h},
		})
	}
	return p
}

// TestProbesAreBounded: what the sidecar could not be told is refused here, where
// somebody reads it, and not by a sidecar that does not start.
func TestProbesAreBounded(t *testing.T) {
	var doors, questions []corev1.ProbeHandler
	for i := range int32(65) {
		doors = append(doors, corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(1000 + i)}})
	}
	for i := range int32(513) {
		questions = append(questions, corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 1000 + i}})
	}
	long := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(80), Path: "/" + strings.Repeat("a", maxProbesText)}}
	for _, tc := range []struct {
		pod  *corev1.Pod
		want string
	}{
		{probed(doors...), "65 ports have tcpSocket probes, and 64 can; exclude some with traffic.sidecar.istio.io/excludeInboundPorts"},
		{probed(questions...), "the pod has 513 different probes, and a sidecar is told of 512; exclude some of their ports with traffic.sidecar.istio.io/excludeInboundPorts"},
		{probed(long), "the pod's probes are 65574 bytes, and a sidecar is told of 65536; shorten their paths and headers, or exclude their ports with traffic.sidecar.istio.io/excludeInboundPorts"},
	} {
		if _, err := Pod(tc.pod, nil, DefaultConfig()); err == nil || err.Error() != tc.want {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
	if _, err := Pod(probed(doors[:64]...), nil, DefaultConfig()); err != nil {
		t.Error(err)
	}
}
