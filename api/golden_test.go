package api_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what the tests got into the golden files")

// golden runs every file of a directory under testdata: txtar with the files to
// read and, last, "want": what got makes of them.
func golden(t *testing.T, dir string, got func(t *testing.T, files []txtar.File) string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", dir, "*.txt"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no golden files in testdata/%s (%v)", dir, err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			last := len(a.Files) - 1
			if last < 1 || a.Files[last].Name != "want" {
				t.Fatalf("%s: the last file must be called want", name)
			}
			out := got(t, a.Files[:last])
			if *update {
				a.Files[last].Data = []byte(out)
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(a.Files[last].Data), out); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}
