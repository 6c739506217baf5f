package deploy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"hasp/api"
	"hasp/inject"
)

func injection(t *testing.T, objects []*unstructured.Unstructured) inject.Config {
	t.Helper()
	m := pick[*corev1.ConfigMap](t, objects, "ConfigMap", inject.ConfigMapName)
	cfg, err := inject.ParseConfig(m.Name, []byte(m.Data[inject.ConfigMapKey]))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestSettings: what the chart writes, the control plane reads.
func TestSettings(t *testing.T) {
	each(t, func(t *testing.T, _ string, objects []*unstructured.Unstructured) {
		injection(t, objects)
		m := pick[*corev1.ConfigMap](t, objects, "ConfigMap", api.MeshConfigName)
		if _, err := api.ParseMeshConfig(m.Data[api.MeshConfigKey]); err != nil {
			t.Errorf("mesh settings: %v", err)
		}
	})
}

// TestOnDemand: from which size on a mesh is told on demand, in the form that the
// control plane reads, large numbers too.
func TestOnDemand(t *testing.T) {
	for values, want := range map[string]string{
		"": "500", "controlPlane: {onDemand: 1000000}": "1000000",
		"controlPlane: {onDemand: always}": "always", "controlPlane: {onDemand: never}": "never",
	} {
		args := templates(t, render(t, values))["istiod"].Spec.Containers[0].Args
		if !slices.Contains(args, "--on-demand="+want) {
			t.Errorf("%q: %q", values, args)
		}
	}
	// Without a value it is the control plane's own default.
	args := templates(t, render(t, "controlPlane: {onDemand: null}"))["istiod"].Spec.Containers[0].Args
	if slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--on-demand") }) {
		t.Errorf("no value: %q", args)
	}
}

// TestInjectionDefaults: hasp inject without a file does what a cluster with the
// chart's defaults does.
func TestInjectionDefaults(t *testing.T) {
	want := inject.DefaultConfig()
	want.Image, want.ImagePullPolicy = "localhost:5000/hasp/hasp-proxy:0.1.0", corev1.PullIfNotPresent
	want.CertLifetime.Duration = 24 * time.Hour
	if diff := cmp.Diff(want, injection(t, render(t, ""))); diff != "" {
		t.Errorf("-inject +chart\n%s", diff)
	}
}

// TestInjectionWithoutLimits: as always in Helm, null takes a default away.
func TestInjectionWithoutLimits(t *testing.T) {
	for values, want := range map[string]corev1.ResourceRequirements{
		"injection: {resources: {limits: null}}":           {Requests: inject.DefaultConfig().Resources.Requests},
		"injection: {resources: {limits: {memory: null}}}": {Requests: inject.DefaultConfig().Resources.Requests},
		"injection: {resources: null}":                     {},
	} {
		if diff := cmp.Diff(want, injection(t, render(t, values)).Resources); diff != "" {
			t.Errorf("%s: -want +got\n%s", values, diff)
		}
	}
}

// TestInjectionValues: every value arrives.
func TestInjectionValues(t *testing.T) {
	got := injection(t, render(t, `
image: {hub: example.com, tag: v1, pullPolicy: Always}
meshConfig: {trustDomain: example.org}
ca: {address: 'csr.cert-manager.svc:443', name: csr, certLifetime: 90m}
cni: {enabled: true, multus: true}
injection:
  uid: 2000
  nativeSidecar: false
  holdApplicationUntilProxyStarts: false
  imagePullSecrets: [a, b]
  logLevel: debug
  resources: {requests: {cpu: 1, memory: 1Gi}, limits: {memory: 2Gi}}
  includeOutboundIPRanges: [10.0.0.0/8]
  excludeOutboundIPRanges: [10.1.0.0/16, 'fd00::/8']
  excludeOutboundPorts: [25, 3306]
  excludeInboundPorts: [9000]
`))
	want := inject.DefaultConfig()
	want.Image, want.ImagePullPolicy, want.ImagePullSecrets = "example.com/hasp-proxy:v1", corev1.PullAlways, []string{"a", "b"}
	want.TrustDomain = "example.org"
	want.CA, want.CAName = "csr.cert-manager.svc:443", "csr"
	want.CertLifetime.Duration = 90 * time.Minute
	want.CNI, want.CNINetwork = true, "default/hasp-cni"
	want.UID, want.NativeSidecar, want.HoldApplicationUntilProxyStarts, want.LogLevel = 2000, false, false, "debug"
	want.Resources = corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("1Gi")},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("2Gi")},
	}
	want.IncludeOutboundIPRanges = []string{"10.0.0.0/8"}
	want.ExcludeOutboundIPRanges = []string{"10.1.0.0/16", "fd00::/8"}
	want.ExcludeOutboundPorts, want.ExcludeInboundPorts = []uint16{25, 3306}, []uint16{9000}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
