package inject_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"hasp/inject"
)

var update = flag.Bool("update", false, "write what the tests got into the golden files")

// TestGolden: each file is one pod, with the settings and the namespace that it
// needs, and what injection makes of it: the reason, the warnings and the pod,
// or the error.
func TestGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no golden files (%v)", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			last := len(a.Files) - 1
			if last < 1 || a.Files[last].Name != "out.yaml" {
				t.Fatal("the last file must be called out.yaml")
			}
			got := outcome(t, a.Files[:last])
			if *update {
				a.Files[last].Data = []byte(got)
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(a.Files[last].Data), got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func outcome(t *testing.T, files []txtar.File) string {
	t.Helper()
	cfg := inject.DefaultConfig()
	ns := &corev1.Namespace{}
	ns.Name = "shop"
	var tree map[string]any
	for _, f := range files {
		var err error
		switch f.Name {
		case "config.yaml":
			cfg, err = inject.ParseConfig("config.yaml", f.Data)
		case "namespace.yaml":
			err = yaml.UnmarshalStrict(f.Data, ns)
		case "in.yaml":
			var b []byte
			if b, err = yaml.YAMLToJSONStrict(f.Data); err == nil {
				err = kjson.Unmarshal(b, &tree)
			}
		default:
			t.Fatalf("a file called %s", f.Name)
		}
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
	}
	asWritten := runtime.DeepCopyJSON(tree)
	r, err := inject.Template(tree, "shop", ns, cfg)
	if diff := cmp.Diff(asWritten, tree); diff != "" {
		t.Errorf("the pod that was given changed: -before +after\n%s", diff)
	}
	if err != nil {
		return fmt.Sprintf("# error: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n# error: "))
	}
	again, err := inject.Template(r.Tree, "shop", ns, cfg)
	if err != nil {
		t.Errorf("a second time: %v", err)
	}
	if diff := cmp.Diff(r.Tree, again.Tree); diff != "" {
		t.Errorf("not idempotent: -once +twice\n%s", diff)
	}
	typed, err := inject.Pod(decoded(t, tree), ns, cfg)
	if err != nil {
		t.Errorf("the same as a Go type: %v", err)
	}
	if diff := cmp.Diff(decoded(t, r.Tree), typed); diff != "" {
		t.Errorf("as written and as Go type differ: -written +type\n%s", diff)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "# injected: %t, because %s\n", r.Inject, r.Why)
	for _, w := range r.Warnings {
		fmt.Fprintf(&out, "# warning: %s\n", w)
	}
	if r.Inject {
		b, err := yaml.Marshal(r.Tree)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	return out.String()
}

func decoded(t *testing.T, tree map[string]any) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(tree, p); err != nil {
		t.Fatal(err)
	}
	p.Namespace = "shop"
	return p
}
