package deploy_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/webhook"
	"k8s.io/apiserver/pkg/cel/environment"

	"hasp/api"
)

// TestWhoIsInjected: for every way in which namespaces and pods can ask for a
// sidecar or refuse one, the API server asks one webhook if hasp means to inject
// and none if not. So a control plane that is down stops only pods of the mesh.
func TestWhoIsInjected(t *testing.T) {
	c := pick[*admissionregistrationv1.MutatingWebhookConfiguration](t, render(t, ""), "MutatingWebhookConfiguration", "istio-sidecar-injector")
	compiler := cel.NewConditionCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	asked := map[string]bool{}
	cases := 0
	for _, name := range []string{"shop", "istio-system", "kube-system"} {
		for _, ns := range combinations(api.NamespaceInjectKey, []string{"", "enabled", "disabled", "x"}, api.RevisionKey, []string{"", "default"}) {
			ns["kubernetes.io/metadata.name"] = name
			for _, podLabels := range combinations(api.InjectKey, []string{"", "true", "false", "x"}, "app", []string{"", "a"}) {
				for _, annotations := range combinations(api.InjectKey, []string{"", "true", "false", "x"}, "b", []string{"", "c"}) {
					pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: name, Labels: podLabels, Annotations: annotations}}
					got := match(t, c.Webhooks, compiler, ns, pod)
					want := api.Injected(annotations, podLabels, ns) && name == "shop"
					if len(got) > 1 || want != (len(got) == 1) {
						t.Errorf("namespace %v, labels %v, annotations %v: asked %v, want a sidecar: %v", ns, podLabels, annotations, got, want)
					}
					for _, g := range got {
						asked[g] = true
					}
					cases++
				}
			}
		}
	}
	if len(asked) != len(c.Webhooks) || cases < 1000 {
		t.Errorf("%d cases asked %v of %d webhooks", cases, asked, len(c.Webhooks))
	}
}

// combinations of the values of two keys; an empty value is a key that is not there.
func combinations(key1 string, values1 []string, key2 string, values2 []string) []map[string]string {
	var out []map[string]string
	for _, a := range values1 {
		for _, b := range values2 {
			var m map[string]string
			for k, v := range map[string]string{key1: a, key2: b} {
				if v != "" {
					if m == nil {
						m = map[string]string{}
					}
					m[k] = v
				}
			}
			if key1 == api.NamespaceInjectKey && m == nil {
				m = map[string]string{}
			}
			out = append(out, m)
		}
	}
	return out
}

// match names the webhooks that the API server would ask, by its own code.
func match(t *testing.T, hooks []admissionregistrationv1.MutatingWebhook, compiler cel.ConditionCompiler, ns map[string]string, pod *corev1.Pod) []string {
	t.Helper()
	var out []string
	for i := range hooks {
		h := &hooks[i]
		selector, err := metav1.LabelSelectorAsSelector(h.NamespaceSelector)
		if err != nil {
			t.Fatal(err)
		}
		if !selector.Matches(labels.Set(ns)) {
			continue
		}
		attr := &admission.VersionedAttributes{
			Attributes: admission.NewAttributesRecord(pod, nil, corev1.SchemeGroupVersion.WithKind("Pod"), pod.Namespace, pod.Name,
				corev1.SchemeGroupVersion.WithResource("pods"), "", admission.Create, &metav1.CreateOptions{}, false, nil),
			VersionedKind: corev1.SchemeGroupVersion.WithKind("Pod"),
		}
		attr.UpdateObject(pod)
		matcher := accessor(fmt.Sprint(i), h).GetCompiledMatcher(compiler)
		got := matcher.Match(context.Background(), attr, nil, nil)
		if got.Error != nil {
			t.Fatalf("%s: %v", h.Name, got.Error)
		}
		if got.Matches {
			out = append(out, h.Name)
		}
	}
	return out
}

// accessors of webhooks by name, since compiling their conditions takes long.
var accessors = map[string]webhook.WebhookAccessor{}

func accessor(uid string, h *admissionregistrationv1.MutatingWebhook) webhook.WebhookAccessor {
	if accessors[h.Name] == nil {
		accessors[h.Name] = webhook.NewMutatingWebhookAccessor(uid, "istio-sidecar-injector", h)
	}
	return accessors[h.Name]
}

// TestWebhooks: no answer is a refusal; the chart does not write the caBundle,
// which the control plane keeps.
func TestWebhooks(t *testing.T) {
	objects := render(t, "")
	m := pick[*admissionregistrationv1.MutatingWebhookConfiguration](t, objects, "MutatingWebhookConfiguration", "istio-sidecar-injector")
	v := pick[*admissionregistrationv1.ValidatingWebhookConfiguration](t, objects, "ValidatingWebhookConfiguration", "istio-validator-istio-system")
	svc := pick[*corev1.Service](t, objects, "Service", "istiod")
	check := func(name, path string, c admissionregistrationv1.WebhookClientConfig, policy *admissionregistrationv1.FailurePolicyType) {
		if *policy != admissionregistrationv1.Fail {
			t.Errorf("%s: failurePolicy %s", name, *policy)
		}
		if c.CABundle != nil || *c.Service.Path != path || c.Service.Name != svc.Name ||
			!slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == *c.Service.Port }) {
			t.Errorf("%s: %v", name, c)
		}
	}
	for _, h := range m.Webhooks {
		check(h.Name, "/inject", h.ClientConfig, h.FailurePolicy)
	}
	for _, h := range v.Webhooks {
		check(h.Name, "/validate", h.ClientConfig, h.FailurePolicy)
	}
	crds, err := api.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	groups := strings.Join(v.Webhooks[0].Rules[0].APIGroups, " ")
	for _, c := range crds {
		if !strings.Contains(groups, c.Spec.Group) {
			t.Errorf("%s is not validated", c.Name)
		}
	}
}
