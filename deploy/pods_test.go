package deploy_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// templates are the pods that an installation makes, by owner.
func templates(t *testing.T, objects []*unstructured.Unstructured) map[string]*corev1.PodTemplateSpec {
	t.Helper()
	out := map[string]*corev1.PodTemplateSpec{}
	for _, u := range objects {
		switch u.GetKind() {
		case "Deployment":
			out[u.GetName()] = &typed(t, u).(*appsv1.Deployment).Spec.Template
		case "DaemonSet":
			out[u.GetName()] = &typed(t, u).(*appsv1.DaemonSet).Spec.Template
		}
	}
	return out
}

// TestPodSecurity: Kubernetes' own evaluation admits every pod as "restricted",
// but for the CNI's agent, and to the namespace at the level it is labelled.
func TestPodSecurity(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	admits := func(level podsecurity.Level, p *corev1.PodTemplateSpec) policy.AggregateCheckResult {
		lv := podsecurity.LevelVersion{Level: level, Version: podsecurity.LatestVersion()}
		return policy.AggregateCheckResults(evaluator.EvaluatePod(lv, &p.ObjectMeta, &p.Spec))
	}
	each(t, func(t *testing.T, _ string, objects []*unstructured.Unstructured) {
		level := podsecurity.Level(pick[*corev1.Namespace](t, objects, "Namespace", "istio-system").Labels[podsecurity.EnforceLevelLabel])
		for name, p := range templates(t, objects) {
			if got := admits(level, p); !got.Allowed {
				t.Errorf("%s: the namespace does not admit it: %s", name, got.ForbiddenDetail())
			}
			if got := admits(podsecurity.LevelRestricted, p); got.Allowed != (name != "hasp-cni-node") {
				t.Errorf("%s: restricted: %v %s", name, got.Allowed, got.ForbiddenDetail())
			}
		}
	})
}

// TestContainers: what Pod Security does not ask for and hasp does.
func TestContainers(t *testing.T) {
	each(t, func(t *testing.T, name string, objects []*unstructured.Unstructured) {
		for owner, p := range templates(t, objects) {
			if p.Labels["sidecar.istio.io/inject"] != "false" {
				t.Errorf("%s would get a sidecar", owner)
			}
			for _, c := range p.Spec.Containers {
				at := owner + "/" + c.Name
				s := c.SecurityContext
				if s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
					t.Errorf("%s can write its root", at)
				}
				if len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" || len(s.Capabilities.Add) > 0 {
					t.Errorf("%s: capabilities %v", at, s.Capabilities)
				}
				if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation {
					t.Errorf("%s may escalate", at)
				}
				if owner != "hasp-cni-node" && (s.RunAsUser == nil || *s.RunAsUser != 1337) {
					t.Errorf("%s does not run as 1337", at)
				}
				if c.Resources.Requests.Cpu().IsZero() || c.Resources.Limits.Memory().IsZero() {
					t.Errorf("%s: resources %v", at, c.Resources)
				}
				hub, tag := "localhost:5000/hasp/", ":0.1.0"
				switch name {
				case "other image":
					hub, tag = "registry.example.com/mesh/", ":v9"
				case "openshift":
					hub = "image-registry.openshift-image-registry.svc:5000/istio-system/"
				}
				if !strings.HasPrefix(c.Image, hub) || !strings.HasSuffix(c.Image, tag) {
					t.Errorf("%s: image %s", at, c.Image)
				}
			}
		}
	})
}

// TestSpread: replicas prefer different nodes and zones, and outlive the drain
// of one; an update never goes below what is wanted.
func TestSpread(t *testing.T) {
	for _, name := range []string{"istiod", "istio-ingressgateway"} {
		d := pick[*appsv1.Deployment](t, render(t, ""), "Deployment", name)
		if *d.Spec.Replicas != 2 || d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue() != 0 {
			t.Errorf("%s: %d replicas, %v", name, *d.Spec.Replicas, d.Spec.Strategy)
		}
		spread := d.Spec.Template.Spec.TopologySpreadConstraints
		apart := d.Spec.Template.Spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution
		if len(spread) != 1 || spread[0].WhenUnsatisfiable != corev1.ScheduleAnyway || len(apart) != 1 {
			t.Errorf("%s: %v %v", name, spread, apart)
		}
	}
	scaled := render(t, "gateway: {autoscaling: {enabled: true}}")
	if d := pick[*appsv1.Deployment](t, scaled, "Deployment", "istio-ingressgateway"); d.Spec.Replicas != nil {
		t.Error("the Deployment and its autoscaler quarrel about replicas")
	}
}

// TestExternalCA: the gateway is told who signs.
func TestExternalCA(t *testing.T) {
	d := pick[*appsv1.Deployment](t, render(t, "ca: {address: 'csr.cert-manager.svc:443', name: istio-csr, certLifetime: 1h}"), "Deployment", "istio-ingressgateway")
	args := strings.Join(d.Spec.Template.Spec.Containers[0].Args, " ")
	for _, want := range []string{"--ca=csr.cert-manager.svc:443", "--ca-name=istio-csr", "--cert-lifetime=1h"} {
		if !strings.Contains(args, want) {
			t.Errorf("no %s in %s", want, args)
		}
	}
}
