package api_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"sigs.k8s.io/yaml"

	"hasp/api"
)

// definitions are the CRDs by name.
func definitions(t *testing.T) map[string]*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	crds, err := api.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for _, c := range crds {
		out[c.Name] = c
	}
	return out
}

func TestCRDsHaveIstiosNames(t *testing.T) {
	got := map[string]string{}
	for name, c := range definitions(t) {
		s := []string{c.Spec.Names.Kind, string(c.Spec.Scope), strings.Join(c.Spec.Names.ShortNames, ",")}
		for _, v := range c.Spec.Versions {
			s = append(s, v.Name)
			if v.Subresources == nil || v.Subresources.Status == nil {
				t.Errorf("%s %s has no status", name, v.Name)
			}
		}
		s = append(s, "|")
		for _, col := range c.Spec.Versions[0].AdditionalPrinterColumns {
			s = append(s, col.Name)
		}
		got[name] = strings.Join(s, " ")
	}
	want := map[string]string{
		"policies.authentication.istio.io":        "Policy Namespaced  v1alpha1 | Age",
		"meshpolicies.authentication.istio.io":    "MeshPolicy Cluster  v1alpha1 | Age",
		"destinationrules.networking.istio.io":    "DestinationRule Namespaced dr v1 v1alpha3 v1beta1 | Host Age",
		"gateways.networking.istio.io":            "Gateway Namespaced gw v1 v1alpha3 v1beta1 |",
		"serviceentries.networking.istio.io":      "ServiceEntry Namespaced se v1 v1alpha3 v1beta1 | Hosts Location Resolution Age",
		"virtualservices.networking.istio.io":     "VirtualService Namespaced vs v1 v1alpha3 v1beta1 | Gateways Hosts Age",
		"workloadentries.networking.istio.io":     "WorkloadEntry Namespaced we v1 v1alpha3 v1beta1 | Age Address",
		"peerauthentications.security.istio.io":   "PeerAuthentication Namespaced pa v1 v1beta1 | Mode Age",
		"authorizationpolicies.security.istio.io": "AuthorizationPolicy Namespaced ap v1 v1beta1 | Action Age",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// An API server refuses a definition that this refuses.
func TestCRDsAreValid(t *testing.T) {
	for name, c := range definitions(t) {
		apiextensionsv1.SetDefaults_CustomResourceDefinition(c)
		apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&c.Spec)
		c.Status.StoredVersions = []string{c.Spec.Versions[0].Name}
		var internal apiextensions.CustomResourceDefinition
		if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(c, &internal, nil); err != nil {
			t.Fatal(err)
		}
		for _, err := range crdvalidation.ValidateCustomResourceDefinition(t.Context(), &internal) {
			if err.Field != "status.storedVersions" {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// What the definitions prune or refuse is what Decode refuses.
func TestPolicySchema(t *testing.T) {
	crd := definitions(t)["policies.authentication.istio.io"]
	var props apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(crd.Spec.Versions[0].Schema.OpenAPIV3Schema, &props, nil); err != nil {
		t.Fatal(err)
	}
	schema, err := structural.NewStructural(&props)
	if err != nil {
		t.Fatal(err)
	}
	validator, _, err := schemavalidation.NewSchemaValidator(&props)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ spec, want string }{
		{`peers: [{mtls: {mode: STRICT}}]`, ""},
		{`peers: [{mtls: {}}]`, ""},
		{`peers: [{mtls: null}]`, ""},
		{`peers:`, ""},
		{`{targets: [{name: boards, ports: [{number: 8080}, {name: http}]}], peers: [{mtls: {allowTls: true, mode: PERMISSIVE}}], peerIsOptional: true}`, ""},
		{`{origins: [{jwt: {issuer: a, audiences: [b], jwksUri: c, jwks: d, jwtHeaders: [e], jwtParams: [f], triggerRules: [{excludedPaths: [{exact: /health_check}], includedPaths: [{prefix: /, suffix: x, regex: z}]}]}}], originIsOptional: true, principalBinding: USE_ORIGIN}`, ""},
		{`peers: [{mtl: {}}]`, "pruned spec.peers[0].mtl"},
		{`peers: [{mtls: {mode: STRICT, x: 1}}]`, "pruned spec.peers[0].mtls.x"},
		{`origins: [{jwt: {foo: a}}]`, "pruned spec.origins[0].jwt.foo"},
		{`peer: []`, "pruned spec.peer"},
		{`peers: [{mtls: {mode: strict}}]`, `spec.peers[0].mtls.mode: Unsupported value: "strict": supported values: "STRICT", "PERMISSIVE"`},
		{`targets: [{}]`, `spec.targets[0].name: Required value`},
		{`principalBinding: USE_BOTH`, `spec.principalBinding: Unsupported value: "USE_BOTH": supported values: "USE_PEER", "USE_ORIGIN"`},
	} {
		manifest := "apiVersion: authentication.istio.io/v1alpha1\nkind: Policy\nmetadata: {name: default}\nspec:\n  " + c.spec + "\n"
		obj := map[string]any{}
		if err := yaml.Unmarshal([]byte(manifest), &obj); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range pruning.PruneWithOptions(obj, schema, true, structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
			got = append(got, "pruned "+p)
		}
		for _, e := range schemavalidation.ValidateCustomResource(nil, obj, validator) {
			got = append(got, e.Error())
		}
		slices.Sort(got)
		if g := strings.Join(got, "\n"); g != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.spec, g, c.want)
		}
		if _, err := api.Decode("p.yaml", []byte(manifest)); (err != nil) != strings.HasPrefix(c.want, "pruned") {
			t.Errorf("%s: Decode: %v", c.spec, err)
		}
	}
}

func BenchmarkCRDs(b *testing.B) {
	for b.Loop() {
		if _, err := api.CRDs(); err != nil {
			b.Fatal(err)
		}
	}
}
