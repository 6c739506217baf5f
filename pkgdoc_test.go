package hasp_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// TestPackageDocs: every room says at its door what it is for, once.
func TestPackageDocs(t *testing.T) {
	docs := map[string]int{}
	err := fs.WalkDir(os.DirFS("."), ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || len(d.Name()) > 1 && d.Name()[0] == '.') {
			return fs.SkipDir
		}
		if path.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		room := filepath.Dir(file)
		docs[room] += 0
		if f.Doc != nil {
			docs[room]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for room, n := range docs {
		if n != 1 {
			t.Errorf("%s has %d package comments, want 1", room, n)
		}
	}
}
