package hasp_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// arrows is the map of this house: each room, and the rooms it may import.
// Everything points downhill. A room or an arrow that is not drawn here fails
// the test, so a new arrow is a line in a diff that somebody reads.
var arrows = map[string]string{
	// The pure heart: no I/O, no goroutines, no clock.
	"mesh":         "",
	"api":          "",
	"api/gen":      "", // cuts api's definitions out of istio.io/api
	"world":        "api mesh",
	"policy":       "api mesh policy/authz world",
	"policy/authz": "mesh",
	"compile":      "api mesh policy world",
	"truth":        "api compile mesh policy policy/authz policy/judge world",
	"policy/judge": "mesh policy/authz",

	// The edges: each touches one part of the outside world, never another edge.
	"source":             "api mesh world",
	"apiserver":          "api",
	"ca":                 "",
	"ca/csr":             "ca",
	"xds":                "mesh policy/authz",
	"xds/server":         "mesh xds",
	"xds/client":         "mesh xds",
	"proxy":              "mesh policy/authz policy/judge proxy/relay",
	"proxy/relay":        "proxy/relay/record",
	"proxy/relay/record": "",
	"capture":            "",
	"proof":              "mesh",
	"inject":             "api mesh",
	"cni":                "api capture mesh",
	// Places for boxes and arrows.
	"dashboard/layout": "",
	"deploy":           "", // the Helm chart as a value
	// The images, a module of its own.
	"deploy/images":             "",
	"deploy/images/after-stdin": "",

	// The wiring: joins edges, decides nothing.
	"control":              "api ca ca/csr compile mesh proof source truth world xds xds/server",
	"local":                "api apiserver ca control dashboard mesh proof sandbox truth",
	"cluster":              "api ca ca/csr control inject mesh source truth world xds/client",
	"cli/check":            "api cluster deploy inject", // asks a cluster
	"cli":                  "api cli/check cluster control dashboard deploy inject local mesh policy proof sandbox source truth world",
	"cmd/hasp":             "cli local",
	"cmd/hasp-cni":         "cni",
	"dashboard":            "dashboard/layout mesh truth",
	"sandbox":              "api capture mesh",
	"cmd/hasp-proxy":       "ca/csr capture cmd/hasp-proxy/quiet mesh proxy proxy/relay xds/client",
	"cmd/hasp-proxy/quiet": "",
}

func TestArrows(t *testing.T) {
	const module = "hasp/"
	// Parse the files rather than ask "go list": files that a test opens are
	// part of its cache key, files that a child process reads are not.
	err := fs.WalkDir(os.DirFS("."), ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (slices.Contains([]string{"testdata", "test", "demo"}, d.Name()) || len(d.Name()) > 1 && d.Name()[0] == '.') {
			return fs.SkipDir
		}
		if path.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		room := path.Dir(file)
		allowed, drawn := arrows[room]
		if !drawn {
			t.Errorf("%s: room %q is not on the map", file, room)
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			imp, _ := strconv.Unquote(spec.Path.Value)
			if to, ours := strings.CutPrefix(imp, module); ours && !slices.Contains(strings.Fields(allowed), to) {
				t.Errorf("%s: no arrow from %s to %s", file, room, to)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
