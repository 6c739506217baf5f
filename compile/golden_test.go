package compile_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"hasp/compile"
	"hasp/source"
)

var update = flag.Bool("update", false, "rewrite want.json in testdata/*.txtar")

// TestGolden compiles the proxy a case names on its first comment line, of the
// case's manifests, and compares the whole configuration and what was said.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			want := ""
			for _, f := range ar.Files {
				if f.Name == "want.json" {
					want = string(f.Data)
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			proxy, _, _ := strings.Cut(string(ar.Comment), "\n")
			got := compiled(t, strings.TrimSpace(strings.TrimPrefix(proxy, "proxy:")), dir)
			if *update {
				ar.Files = append(ar.Files[:len(ar.Files)-1], txtar.File{Name: "want.json", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s(-want +got)\n%s", ar.Comment, diff)
			}
		})
	}
}

func compiled(t *testing.T, proxy, dir string) string {
	t.Helper()
	w, problems, err := source.FromFiles(nil, "shop", dir)
	if err != nil {
		t.Fatal(err)
	}
	wl := w.Workload(proxy)
	if wl == nil {
		t.Fatalf("there is no workload %q in the case", proxy)
	}
	cfg, diagnostics := compile.For(w, wl)
	b, err := json.MarshalIndent(map[string]any{"config": cfg, "problems": problems, "diagnostics": diagnostics}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b) + "\n"
}
