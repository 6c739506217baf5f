package cni

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func TestDecide(t *testing.T) {
	const status = `metadata: {namespace: shop, name: api, annotations: {sidecar.istio.io/status: "{}"`
	for _, tc := range []struct{ name, pod, want string }{
		{"not injected", `spec: {containers: [{name: istio-proxy}]}`, "the pod has no annotation sidecar.istio.io/status, so no sidecar was injected"},
		{"node's network", status + `}}
spec: {hostNetwork: true, containers: [{name: istio-proxy}]}`, "the pod has the node's network"},
		{"no sidecar", status + `}}
spec: {containers: [{name: app}]}`, "the pod has no container istio-proxy"},
		{"captures itself", status + `}}
spec: {initContainers: [{name: istio-init}, {name: istio-proxy}], containers: [{name: app}]}`, "the pod's init container istio-init captures"},
		{"sidecar", status + `}}
spec: {initContainers: [{name: istio-proxy, securityContext: {runAsUser: 1000660001}}], containers: [{name: app, readinessProbe: {tcpSocket: {port: 5432}}}]}`,
			`table inet hasp {
	chain output {
		type nat hook output priority -100; policy accept;
		meta skuid 1000660001 counter return
		oifname "lo" counter return
		meta l4proto tcp counter redirect to :15001
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		iifname "lo" counter return
		tcp dport 15021 counter return
		tcp dport 15090 counter return
		tcp dport 5432 counter redirect to :15100
		meta l4proto tcp counter redirect to :15006
	}
}
`},
		{"annotations", status + `,
  traffic.sidecar.istio.io/excludeOutboundIPRanges: "10.0.0.0/8", traffic.sidecar.istio.io/includeInboundPorts: "8080", traffic.sidecar.istio.io/includeOutboundPorts: "",
  traffic.sidecar.istio.io/excludeOutboundPorts: "6379"}}
spec: {containers: [{name: app}, {name: istio-proxy}]}`,
			`table inet hasp {
	chain output {
		type nat hook output priority -100; policy accept;
		meta skuid 1337 counter return
		oifname "lo" counter return
		ip daddr 10.0.0.0/8 counter return
		tcp dport 6379 counter return
		meta l4proto tcp counter redirect to :15001
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		iifname "lo" counter return
		tcp dport 15021 counter return
		tcp dport 15090 counter return
		tcp dport 8080 counter redirect to :15006
	}
}
`},
	} {
		pod := &corev1.Pod{}
		if err := yaml.UnmarshalStrict([]byte(tc.pod), pod); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		a, err := decide(pod)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		got := a.Why
		if a.Capture != nil {
			got = spec(a.Capture).String()
		}
		if got != tc.want {
			t.Errorf("%s:\n%s\nwant\n%s", tc.name, got, tc.want)
		}
	}
}

// TestDecideRefuses: an annotation that cannot be followed is not passed over.
func TestDecideRefuses(t *testing.T) {
	pod := &corev1.Pod{}
	text := `{metadata: {namespace: shop, name: api, annotations: {sidecar.istio.io/status: "{}", traffic.sidecar.istio.io/excludeInboundPorts: eighty}}, spec: {containers: [{name: istio-proxy}]}}`
	if err := yaml.UnmarshalStrict([]byte(text), pod); err != nil {
		t.Fatal(err)
	}
	if _, err := decide(pod); err == nil || !strings.HasPrefix(err.Error(), `what to capture for pod shop/api: annotation traffic.sidecar.istio.io/excludeInboundPorts: "eighty"`) {
		t.Errorf("got %v", err)
	}
}
