package api_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"hasp/api"
)

func pod(t testing.TB, text string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(text), p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlanCapture(t *testing.T) {
	own := []uint16{15021, 15090}
	prefixes := func(s ...string) (out []netip.Prefix) {
		for _, p := range s {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	for _, tc := range []struct {
		name, pod string
		want      api.CapturePlan
	}{
		{"nothing said", `{}`, api.CapturePlan{UID: 1337, ExcludeInboundPorts: own}},
		{"excluded", `metadata: {annotations: {
			traffic.sidecar.istio.io/excludeInboundPorts: "8081, 81,81",
			traffic.sidecar.istio.io/excludeOutboundPorts: "6379,",
			traffic.sidecar.istio.io/excludeOutboundIPRanges: "10.9.8.7/8,2001:db8::1/32,::ffff:192.168.0.0/112"}}`,
			api.CapturePlan{UID: 1337, ExcludeInboundPorts: []uint16{81, 8081, 15021, 15090}, ExcludeOutboundPorts: []uint16{6379},
				ExcludeOutboundRanges: prefixes("10.0.0.0/8", "192.168.0.0/16", "2001:db8::/32")}},
		{"included", `metadata: {annotations: {
			traffic.sidecar.istio.io/includeInboundPorts: "8080",
			traffic.sidecar.istio.io/includeOutboundPorts: "443",
			traffic.sidecar.istio.io/includeOutboundIPRanges: "10.0.0.0/8",
			traffic.sidecar.istio.io/excludeOutboundIPRanges: "10.1.0.0/16"}}`,
			api.CapturePlan{UID: 1337, IncludeInboundPorts: []uint16{8080}, ExcludeInboundPorts: own, IncludeOutboundPorts: []uint16{443},
				IncludeOutboundRanges: prefixes("10.0.0.0/8"), ExcludeOutboundRanges: prefixes("10.1.0.0/16")}},
		{"nothing included", `metadata: {annotations: {
			traffic.sidecar.istio.io/includeInboundPorts: "", traffic.sidecar.istio.io/includeOutboundIPRanges: ""}}`,
			api.CapturePlan{UID: 1337, IncludeInboundPorts: []uint16{}, ExcludeInboundPorts: own, IncludeOutboundRanges: []netip.Prefix{}}},
		{"everything", `metadata: {annotations: {
			sidecar.istio.io/interceptionMode: REDIRECT,
			traffic.sidecar.istio.io/includeInboundPorts: "*", traffic.sidecar.istio.io/includeOutboundIPRanges: " * "}}`,
			api.CapturePlan{UID: 1337, ExcludeInboundPorts: own}},
		{"user of the sidecar", `spec: {initContainers: [{name: istio-proxy, securityContext: {runAsUser: 1000009999}}]}`,
			api.CapturePlan{UID: 1000009999, ExcludeInboundPorts: own}},
		{"ports of probes", `
metadata: {annotations: {traffic.sidecar.istio.io/excludeInboundPorts: "8081"}}
spec:
  initContainers:
  - {name: istio-proxy, startupProbe: {tcpSocket: {port: 15006}}}
  - {name: cache, restartPolicy: Always, startupProbe: {tcpSocket: {port: 6379}}}
  containers:
  - name: a
    ports: [{name: db, containerPort: 5432}]
    readinessProbe: {tcpSocket: {port: db}}
    livenessProbe: {tcpSocket: {port: 5432}}
  - {name: b, livenessProbe: {tcpSocket: {port: 8081}}, readinessProbe: {httpGet: {port: 8080}}}`,
			api.CapturePlan{UID: 1337, ExcludeInboundPorts: []uint16{8081, 15021, 15090}, ProbePorts: []uint16{5432, 6379}}},
	} {
		got, err := api.PlanCapture(pod(t, strings.ReplaceAll(tc.pod, "\t", " ")))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if diff := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.IgnoreFields(got, "Probes")); diff != "" {
			t.Errorf("%s: -want +got\n%s", tc.name, diff)
		}
	}
}

func TestPlanCaptureRefuses(t *testing.T) {
	const traffic = "traffic.sidecar.istio.io/"
	for _, tc := range []struct {
		annotations map[string]string
		want        string
	}{
		{map[string]string{traffic + "excludeInboundPorts": "80,http"},
			`annotation traffic.sidecar.istio.io/excludeInboundPorts: "80,http": "http" is not a port; write numbers from 1 to 65535, separated by commas`},
		{map[string]string{traffic + "includeOutboundPorts": "0"},
			`annotation traffic.sidecar.istio.io/includeOutboundPorts: "0": "0" is not a port; write numbers from 1 to 65535, separated by commas`},
		{map[string]string{traffic + "excludeOutboundIPRanges": "10.0.0.1"},
			`annotation traffic.sidecar.istio.io/excludeOutboundIPRanges: "10.0.0.1": "10.0.0.1" is not an address range; write 10.0.0.1/32`},
		{map[string]string{traffic + "includeOutboundIPRanges": "10.0.0.0/33"},
			`annotation traffic.sidecar.istio.io/includeOutboundIPRanges: "10.0.0.0/33": "10.0.0.0/33" is not an address range; write ranges like 10.0.0.0/8 or 2001:db8::/32, separated by commas`},
		{map[string]string{traffic + "includeInboundPorts": "80,81", traffic + "excludeInboundPorts": "81"},
			`annotation traffic.sidecar.istio.io/excludeInboundPorts: "81": traffic.sidecar.istio.io/includeInboundPorts includes port 81 ("80,81"); keep one of them`},
		{map[string]string{traffic + "includeOutboundIPRanges": "10.1.0.0/16", traffic + "excludeOutboundIPRanges": "10.0.0.0/8"},
			`annotation traffic.sidecar.istio.io/excludeOutboundIPRanges: "10.0.0.0/8": traffic.sidecar.istio.io/includeOutboundIPRanges includes 10.1.0.0/16 ("10.1.0.0/16"), of which this leaves nothing; keep one of them`},
		{map[string]string{traffic + "excludeInboundPort": "80"},
			`annotation traffic.sidecar.istio.io/excludeInboundPort: "80": hasp knows no such annotation; did you mean traffic.sidecar.istio.io/excludeInboundPorts?`},
		{map[string]string{traffic + "kubevirtInterfaces": "net1"},
			`annotation traffic.sidecar.istio.io/kubevirtInterfaces: "net1": hasp does not support this annotation; remove it`},
		{map[string]string{traffic + "excludeInterfaces": "net1"},
			`annotation traffic.sidecar.istio.io/excludeInterfaces: "net1": hasp does not support this annotation; remove it`},
		{map[string]string{"sidecar.istio.io/interceptionMode": "TPROXY"},
			`annotation sidecar.istio.io/interceptionMode: "TPROXY": connections are captured by REDIRECT only; remove the annotation`},
	} {
		p := &corev1.Pod{}
		p.Annotations = tc.annotations
		if _, err := api.PlanCapture(p); err == nil || err.Error() != tc.want {
			t.Errorf("%v:\n got %v\nwant %s", tc.annotations, err, tc.want)
		}
	}
	root := pod(t, `spec: {containers: [{name: istio-proxy, securityContext: {runAsUser: 0}}]}`)
	want := "container istio-proxy runs as user 0, by which its own connections cannot be told from the application's"
	if _, err := api.PlanCapture(root); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestNetworkProbes(t *testing.T) {
	p := pod(t, `
spec:
  initContainers:
  - {name: istio-proxy, startupProbe: {httpGet: {port: 15021}}}
  - {name: side, restartPolicy: Always, startupProbe: {grpc: {port: 9090}}}
  containers:
  - name: app
    ports: [{name: http, containerPort: 8080}]
    startupProbe: {exec: {command: ["true"]}}
    readinessProbe: {httpGet: {port: http, path: /ready}}
    livenessProbe: {tcpSocket: {port: "8081"}}
    lifecycle:
      postStart: {tcpSocket: {port: 1}}
      preStop: {httpGet: {port: 8080, path: /bye}}
  - name: other
    startupProbe: {httpGet: {port: http}}
    readinessProbe: {httpGet: {port: 80, host: example.com}}
    livenessProbe: {tcpSocket: {port: 80, host: example.com}}`)
	probes, problems := api.NetworkProbes(&p.Spec)
	type at struct {
		Field string
		Port  uint16
		Hook  bool
	}
	var places []at
	for _, q := range probes {
		places = append(places, at{q.Field, q.Port, q.Hook})
	}
	want := []at{
		{"spec.initContainers[1].startupProbe", 9090, false},
		{"spec.containers[0].readinessProbe", 8080, false},
		{"spec.containers[0].livenessProbe", 8081, false},
		{"spec.containers[0].lifecycle.preStop", 8080, true},
	}
	if diff := cmp.Diff(want, places); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if want := []string{`spec.containers[1].startupProbe: container other has no port "http", so the kubelet cannot ask`}; !slices.Equal(problems, want) {
		t.Errorf("got %q, want %q", problems, want)
	}
}

func FuzzPlanCapture(f *testing.F) {
	f.Add("80,81", "81", "10.0.0.0/8", "*")
	f.Add("*", "0", "::ffff:1.2.3.4/100,fe80::1%eth0/10", "10.1.2.3")
	f.Fuzz(func(t *testing.T, in, out, nets, others string) {
		p := &corev1.Pod{}
		p.Annotations = map[string]string{
			api.IncludeInboundPortsKey: in, api.ExcludeInboundPortsKey: out,
			api.IncludeOutboundRangesKey: nets, api.ExcludeOutboundRangesKey: others,
		}
		plan, err := api.PlanCapture(p)
		if err != nil {
			return
		}
		if plan.CapturesInbound(api.ProxyHealthPort) {
			t.Errorf("the health port is captured: %+v", plan)
		}
		for _, r := range slices.Concat(plan.IncludeOutboundRanges, plan.ExcludeOutboundRanges) {
			if !r.IsValid() || r != r.Masked() {
				t.Errorf("the range %s", r)
			}
		}
		for _, port := range plan.IncludeInboundPorts {
			if port != api.ProxyHealthPort && port != api.ProxyMetricsPort && !plan.CapturesInbound(port) {
				t.Errorf("port %d is included and not captured", port)
			}
		}
	})
}
