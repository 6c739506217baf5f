package inject_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"hasp/api"
	"hasp/inject"
)

// TestManifests: each file is manifests, and what becomes of them: a line for
// each object with the containers it starts, and the notes or the errors.
func TestManifests(t *testing.T) {
	names, err := filepath.Glob("testdata/manifests/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no golden files (%v)", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Files) != 2 || a.Files[1].Name != "out" {
				t.Fatal("the files must be manifests and out")
			}
			objects, err := api.Decode(a.Files[0].Name, a.Files[0].Data)
			if err != nil {
				t.Fatal(err)
			}
			trees, notes, err := inject.Manifests(objects, "shop", inject.DefaultConfig())
			got := summary(t, trees) + strings.Join(append(notes, ""), "\n")
			if err != nil {
				got += err.Error() + "\n"
			}
			if *update {
				a.Files[1].Data = []byte(got)
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(a.Files[1].Data), got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// summary is a line for each object.
func summary(t *testing.T, trees []map[string]any) string {
	t.Helper()
	var out strings.Builder
	for _, tree := range trees {
		b, err := yaml.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		var o struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := yaml.Unmarshal(b, &o); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s %s:", o.Kind, o.Metadata.Name)
		for _, c := range started(t, tree) {
			fmt.Fprintf(&out, " %s", c)
		}
		out.WriteString("\n")
	}
	return out.String()
}

// started are the containers under an object's spec, in the order of starting.
func started(t *testing.T, tree map[string]any) []string {
	t.Helper()
	for _, inner := range []string{"template", "jobTemplate", "spec"} {
		if next, ok := tree[inner].(map[string]any); ok {
			return started(t, next)
		}
	}
	b, err := yaml.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	var spec corev1.PodSpec
	if err := yaml.Unmarshal(b, &spec); err != nil {
		return nil // of another kind
	}
	var names []string
	for _, c := range append(spec.InitContainers, spec.Containers...) {
		name := c.Name
		if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
			name += fmt.Sprintf("(%d)", *c.SecurityContext.RunAsUser)
		}
		names = append(names, name)
	}
	return names
}
