package deploy_test

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	clientscheme "k8s.io/client-go/kubernetes/scheme"

	"hasp/deploy"
)

// variants are installations that differ, and the objects by which they do.
var variants = []struct {
	name   string
	values string
	differ []string // from the defaults: "+ ..." and "- ..."
}{
	{name: "defaults"},
	{name: "other image", values: "image: {hub: registry.example.com/mesh, tag: v9, pullSecrets: [pull], pullPolicy: Always}"},
	{name: "external CA", values: "ca: {address: 'cert-manager-istio-csr.cert-manager.svc:443', name: istio-csr, certLifetime: 1h}"},
	{name: "mesh settings", values: "meshConfig: {trustDomain: example.org, enableAutoMtls: false}"},
	{name: "one replica", values: "controlPlane: {replicas: 1, podDisruptionBudget: {enabled: false}}", differ: []string{
		"- PodDisruptionBudget istio-system/istiod"}},
	{name: "no network policy", values: "controlPlane: {networkPolicy: {enabled: false}}", differ: []string{
		"- NetworkPolicy istio-system/istiod"}},
	{name: "no webhook for pods", values: "injection: {enabled: false}", differ: []string{
		"- MutatingWebhookConfiguration /istio-sidecar-injector"}},
	{name: "no gateway", values: "gateway: {enabled: false}", differ: []string{
		"- Deployment istio-system/istio-ingressgateway",
		"- PodDisruptionBudget istio-system/istio-ingressgateway",
		"- Service istio-system/istio-ingressgateway",
		"- ServiceAccount istio-system/istio-ingressgateway-service-account"}},
	{name: "a gateway that scales", values: "gateway: {autoscaling: {enabled: true}, podDisruptionBudget: {enabled: false}, service: {type: NodePort, ports: [{name: http, port: 80, nodePort: 30080}]}}", differ: []string{
		"+ HorizontalPodAutoscaler istio-system/istio-ingressgateway",
		"- PodDisruptionBudget istio-system/istio-ingressgateway"}},
	{name: "definitions from elsewhere", values: "crds: {install: false}", differ: []string{
		"- CustomResourceDefinition /authorizationpolicies.security.istio.io",
		"- CustomResourceDefinition /destinationrules.networking.istio.io",
		"- CustomResourceDefinition /gateways.networking.istio.io",
		"- CustomResourceDefinition /meshpolicies.authentication.istio.io",
		"- CustomResourceDefinition /peerauthentications.security.istio.io",
		"- CustomResourceDefinition /policies.authentication.istio.io",
		"- CustomResourceDefinition /serviceentries.networking.istio.io",
		"- CustomResourceDefinition /virtualservices.networking.istio.io",
		"- CustomResourceDefinition /workloadentries.networking.istio.io"}},
	{name: "placement", values: `
controlPlane: {nodeSelector: {a: b}, tolerations: [{operator: Exists}], priorityClassName: high, podAnnotations: {x: "1"}}
gateway: {nodeSelector: {a: b}, tolerations: [{operator: Exists}], podAnnotations: {x: "1"}, service: {annotations: {y: "2"}, externalTrafficPolicy: Local, loadBalancerClass: lb, ipFamilyPolicy: PreferDualStack}}`},
	{name: "cni", values: "cni: {enabled: true}", differ: []string{
		"+ ClusterRole /hasp-cni-istio-system",
		"+ ClusterRoleBinding /hasp-cni-istio-system",
		"+ DaemonSet istio-system/hasp-cni-node",
		"+ Role istio-system/hasp-cni",
		"+ RoleBinding istio-system/hasp-cni",
		"+ ServiceAccount istio-system/hasp-cni"}},
	{name: "openshift", values: "file", differ: []string{
		"+ ClusterRole /hasp-cni-istio-system",
		"+ ClusterRoleBinding /hasp-cni-istio-system",
		"+ DaemonSet istio-system/hasp-cni-node",
		"+ NetworkAttachmentDefinition default/hasp-cni",
		"+ Role istio-system/hasp-cni",
		"+ RoleBinding istio-system/hasp-cni",
		"+ RoleBinding istio-system/hasp-cni-privileged",
		"+ RoleBinding istio-system/hasp-image-puller",
		"+ RoleBinding istio-system/hasp-nonroot",
		"+ ServiceAccount istio-system/hasp-cni"}},
}

// each renders every variant.
func each(t *testing.T, check func(t *testing.T, name string, objects []*unstructured.Unstructured)) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) { check(t, v.name, render(t, v.values)) })
	}
}

// rendered are the objects by values; nobody changes them.
var rendered = map[string][]*unstructured.Unstructured{}

func render(t *testing.T, values string) []*unstructured.Unstructured {
	t.Helper()
	if rendered[values] == nil {
		rendered[values] = renderAnew(t, values)
	}
	return rendered[values]
}

func renderAnew(t *testing.T, values string) []*unstructured.Unstructured {
	t.Helper()
	if values == "file" {
		b, err := os.ReadFile("hasp/values-openshift.yaml")
		if err != nil {
			t.Fatal(err)
		}
		values = string(b)
	}
	v, err := deploy.Values([]string{values}, nil)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := deploy.Render(deploy.Options{Values: v})
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func refs(objects []*unstructured.Unstructured) []string {
	var out []string
	for _, u := range objects {
		out = append(out, u.GetKind()+" "+u.GetNamespace()+"/"+u.GetName())
	}
	slices.Sort(out)
	return out
}

func TestVariants(t *testing.T) {
	defaults := refs(render(t, ""))
	for _, v := range variants {
		got := refs(render(t, v.values))
		var differ []string
		for _, r := range got {
			if !slices.Contains(defaults, r) {
				differ = append(differ, "+ "+r)
			}
		}
		for _, r := range defaults {
			if !slices.Contains(got, r) {
				differ = append(differ, "- "+r)
			}
		}
		if diff := cmp.Diff(v.differ, differ); diff != "" {
			t.Errorf("%s: -want +got\n%s", v.name, diff)
		}
		if len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%s: an object is there twice: %v", v.name, got)
		}
	}
}

// TestObjects: what the API server and hasp install need of every object.
func TestObjects(t *testing.T) {
	each(t, func(t *testing.T, _ string, objects []*unstructured.Unstructured) {
		stage := 0
		order := []string{"Namespace", "CustomResourceDefinition", "", "Deployment DaemonSet", "PodDisruptionBudget HorizontalPodAutoscaler", "MutatingWebhookConfiguration ValidatingWebhookConfiguration"}
		for _, u := range objects {
			if u.GetKind() != "NetworkAttachmentDefinition" { // Multus has no Go type here
				typed(t, u)
			}
			at := slices.IndexFunc(order, func(kinds string) bool { return slices.Contains(strings.Fields(kinds), u.GetKind()) })
			if at < 0 {
				at = 2
			}
			if at < stage {
				t.Errorf("%s %s comes too late", u.GetKind(), u.GetName())
			}
			stage = at
			for label, want := range map[string]string{
				deploy.InstanceLabel: "hasp", deploy.ManagedByLabel: "hasp", deploy.PartOfLabel: "hasp",
			} {
				if got := u.GetLabels()[label]; got != want {
					t.Errorf("%s %s: label %s is %q", u.GetKind(), u.GetName(), label, got)
				}
			}
		}
	})
}

// strict decodes Kubernetes' kinds and refuses fields they have not.
var strict = sync.OnceValue(func() runtime.Decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
})

// typed is an object as its Go type, which has every field that the chart wrote.
func typed(t *testing.T, u *unstructured.Unstructured) runtime.Object {
	t.Helper()
	text, err := u.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	obj, _, err := strict().Decode(text, nil, nil)
	if err != nil {
		t.Errorf("%s %s: %v", u.GetKind(), u.GetName(), err)
	}
	return obj
}

// pick is the one object of a kind and name, as its type.
func pick[T runtime.Object](t *testing.T, objects []*unstructured.Unstructured, kind, name string) T {
	t.Helper()
	for _, u := range objects {
		if u.GetKind() == kind && u.GetName() == name {
			return typed(t, u).(T)
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	panic("unreachable")
}
