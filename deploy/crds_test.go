package deploy_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"hasp/api"
)

var update = flag.Bool("update", false, "rewrite the chart's definitions from the api package")

// TestDefinitions: the chart's files are the definitions that package api
// serves, none missing and none left over.
func TestDefinitions(t *testing.T) {
	crds, err := api.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	const dir = "hasp/files/crds"
	want := map[string]string{}
	for _, c := range crds {
		text, err := yaml.Marshal(definition(t, c))
		if err != nil {
			t.Fatal(err)
		}
		want[c.Name+".yaml"] = string(text)
	}
	if *update {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range want {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		got, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if want[f.Name()] != string(got) {
			t.Errorf("%s/%s is not what api.CRDs says; go test ./deploy -update writes it", dir, f.Name())
		}
		delete(want, f.Name())
	}
	for name := range want {
		t.Errorf("%s/%s is missing; go test ./deploy -update writes it", dir, name)
	}
}

// definition is a CRD without the empty fields its type cannot leave out.
func definition(t *testing.T, c *apiextensionsv1.CustomResourceDefinition) map[string]any {
	t.Helper()
	text, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := yaml.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	delete(out, "status")
	delete(out["metadata"].(map[string]any), "creationTimestamp")
	return out
}

// TestDefinitionsRendered: the engine's way from YAML to YAML loses no number.
func TestDefinitionsRendered(t *testing.T) {
	if *update {
		t.Skip("the embedded files are from before the update")
	}
	crds, err := api.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]apiextensionsv1.CustomResourceDefinitionSpec{}
	for _, c := range crds {
		want[c.Name] = c.Spec
	}
	got := map[string]apiextensionsv1.CustomResourceDefinitionSpec{}
	for _, u := range render(t, "") {
		if crd, ok := typed(t, u).(*apiextensionsv1.CustomResourceDefinition); ok {
			got[crd.Name] = crd.Spec
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-api +rendered\n%s", diff)
	}
}
