package inject

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"hasp/api"
)

// TestDocumentedAnnotations holds docs/injection.md and the code together: the
// table has every annotation that is followed, and no other.
func TestDocumentedAnnotations(t *testing.T) {
	want := slices.Concat(slices.Collect(maps.Keys(readers())), api.CaptureAnnotations(), []string{api.InterceptionModeKey})
	same(t, "annotations", want, firstColumn(t, "## Annotations"))
}

// TestDocumentedSettings does the same for the settings.
func TestDocumentedSettings(t *testing.T) {
	var want []string
	for f := range reflect.TypeFor[Config]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		want = append(want, name)
	}
	same(t, "settings", want, firstColumn(t, "## Settings"))
}

func same(t *testing.T, what string, want, got []string) {
	t.Helper()
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("the table of %s lacks %s", what, w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("the table of %s has %s, which the code does not know", what, g)
		}
	}
}

var row = regexp.MustCompile("(?m)^\\| `([^`]+)` ")

// firstColumn is what the table under a heading is about.
func firstColumn(t *testing.T, heading string) []string {
	t.Helper()
	b, err := os.ReadFile("../docs/injection.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(b), "\n"+heading+"\n")
	if !found {
		t.Fatalf("docs/injection.md has no %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var out []string
	for _, m := range row.FindAllStringSubmatch(section, -1) {
		out = append(out, m[1])
	}
	if len(out) == 0 {
		t.Fatalf("docs/injection.md has no table under %q", heading)
	}
	return out
}
