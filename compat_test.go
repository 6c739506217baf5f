package hasp_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	mesh "istio.io/api/mesh/v1alpha1"

	"google.golang.org/protobuf/reflect/protoreflect"
	"sigs.k8s.io/yaml"

	"hasp/api"
	"hasp/compile"
	"hasp/source"
)

var update = flag.Bool("update", false, "rewrite docs/compat.md")

// What becomes of a field.
const (
	applied  = "applied"
	warned   = "accepted with a warning"
	accepted = "accepted, no effect"
	leftOut  = "left out"
	refused  = "refused"
)

// compatKind is a kind of Istio's: an object of it in a small world, and for
// each field a value to try there.
type compatKind struct {
	name, apiVersion string
	spec             string // of the object without the field
	beside           string // other objects of the world
	fields           []compatField
	// whole are the messages whose every field must be tried, by the path of
	// theirs.
	whole map[string]protoreflect.ProtoMessage
}

// compatField is one field: with is merged into the spec to compare, context
// into both.
type compatField struct{ path, with, context string }

// TestCompatibility tries every field: what the API refuses, what it warns of,
// and whether any proxy's configuration differs with it. docs/compat.md is what
// came of it; -update writes it.
func TestCompatibility(t *testing.T) {
	var doc strings.Builder
	doc.WriteString(compatIntro)
	for _, k := range compatKinds() {
		k.complete(t)
		fmt.Fprintf(&doc, "\n## %s\n\n| field | |\n| --- | --- |\n", k.name)
		for _, f := range k.fields {
			result, err := k.try(t, f)
			if err != nil {
				t.Errorf("%s: %s: %v", k.name, f.path, err)
				continue
			}
			fmt.Fprintf(&doc, "| `%s` | %s |\n", f.path, result)
		}
	}
	doc.WriteString(meshConfigFields())
	const file = "docs/compat.md"
	if *update {
		if err := os.WriteFile(file, []byte(doc.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), doc.String()); diff != "" {
		t.Errorf("%s is not what hasp does; go test -run Compatibility . -update (-page +hasp)\n%s", file, diff)
	}
}

const compatIntro = `# Compatibility

What becomes of each field of Istio's kinds. This page is written by
` + "`TestCompatibility`" + `, which tries every field and looks whether any proxy's
configuration differs with it; the test fails when the page is not true.

- **applied**: it changes what a proxy does.
- **accepted with a warning**: the API says at apply that it is not applied, or
  what it means.
- **left out**: the part of the object with this field has no effect, and
  ` + "`hasp status`" + ` says so.
- **accepted, no effect**: kept with the object; hasp does nothing with it.
- **refused**: the API does not take the object.

Unknown fields are always refused. Other kinds of Istio's
(RequestAuthentication, Sidecar, EnvoyFilter, Telemetry, ...) are unknown to the
API server.
`

// try is what becomes of one field, followed by the reason where there is one.
func (k compatKind) try(t *testing.T, f compatField) (string, error) {
	before, after := map[string]any{}, map[string]any{}
	for _, into := range []map[string]any{before, after} {
		for _, text := range []string{k.spec, f.context} {
			if err := mergeYAML(into, text); err != nil {
				return "", err
			}
		}
	}
	if err := mergeYAML(after, f.with); err != nil {
		return "", err
	}
	with, err := k.object(after)
	if err != nil {
		return "", err
	}
	objects, err := api.Decode("", with)
	if err != nil {
		return "", fmt.Errorf("the example is wrong: %w", err)
	}
	if errs := api.Validate(objects[0]); len(errs) > 0 {
		return refused + ": " + errs[0].Detail, nil
	}
	without, err := k.object(before)
	if err != nil {
		return "", err
	}
	base, err := api.Decode("", without)
	if err != nil {
		return "", fmt.Errorf("the object without it is wrong: %w", err)
	}
	if errs := api.Validate(base[0]); len(errs) > 0 {
		return "", fmt.Errorf("the object without it is refused: %w", errs.ToAggregate())
	}
	was, wasSaid := k.configurations(t, without)
	is, said := k.configurations(t, with)
	for _, s := range said {
		if !slices.Contains(wasSaid, s) {
			return leftOut + ": " + s, nil
		}
	}
	return verdict(is != was, news(api.Warnings(base[0]), api.Warnings(objects[0]))), nil
}

// news is the first warning that was not there before, without its field.
func news(before, after []string) string {
	for _, w := range after {
		if !slices.Contains(before, w) {
			_, why, _ := strings.Cut(w, ": ")
			return why
		}
	}
	return ""
}

// verdict of a field that the API takes. Where the warning says that the field is
// not applied, what differs is what had to give way to it.
func verdict(differs bool, warning string) string {
	switch {
	case warning == "" && differs:
		return applied
	case warning == "":
		return accepted
	case differs && !strings.Contains(warning, "hasp does not") && !strings.Contains(warning, "only yet"):
		return applied + "; warning: " + warning
	}
	return warned + ": " + warning
}

func (k compatKind) object(spec map[string]any) ([]byte, error) {
	return yaml.Marshal(map[string]any{
		"apiVersion": k.apiVersion, "kind": k.name, "spec": spec,
		"metadata": map[string]any{"name": k.objectName(), "namespace": k.namespace()},
	})
}

func (k compatKind) objectName() string {
	switch k.name {
	case "Gateway":
		return "front" // as the VirtualService beside it says
	case "Policy":
		return "for-services" // a default one takes no targets
	}
	return "default"
}

func (k compatKind) namespace() string {
	if k.name == "MeshPolicy" {
		return ""
	}
	return "shop"
}

// configurations are those of all proxies of the world with an object in it, and
// what the mesh says of it.
func (k compatKind) configurations(t *testing.T, object []byte) (string, []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "in.yaml")
	text := compatWorld + "---\n" + k.beside + "\n---\n" + string(object)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w, problems, err := source.FromFiles(nil, "shop", file)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, p := range problems {
		said = append(said, p.Message)
	}
	var all []any
	for _, wl := range w.Workloads {
		c, diagnostics := compile.For(w, wl)
		all = append(all, c)
		for _, d := range diagnostics {
			said = append(said, d.Message)
		}
	}
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), said
}

// complete fails when a field of Istio's is not among those that are tried.
func (k compatKind) complete(t *testing.T) {
	t.Helper()
	for path, m := range k.whole {
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			name := path + fields.Get(i).JSONName()
			if !slices.ContainsFunc(k.fields, func(f compatField) bool {
				return f.path == name || strings.HasPrefix(f.path, name+".") || strings.HasPrefix(f.path, name+"[]") || strings.HasPrefix(f.path, name+" ")
			}) {
				t.Errorf("%s: the field %s is not tried", k.name, name)
			}
		}
	}
}

// mergeYAML merges text into an object; lists are replaced.
func mergeYAML(into map[string]any, text string) error {
	var from map[string]any
	if err := yaml.Unmarshal([]byte(text), &from); err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	merge(into, from)
	return nil
}

func merge(into, from map[string]any) {
	for key, v := range from {
		a, okA := into[key].(map[string]any)
		b, okB := v.(map[string]any)
		if okA && okB {
			merge(a, b)
			continue
		}
		into[key] = v
	}
}

// meshConfigFields asks the parser of the mesh's settings about each of Istio's.
func meshConfigFields() string {
	supported := map[string]bool{}
	others := 0
	var walk func(prefix string, m protoreflect.MessageDescriptor, depth int)
	walk = func(prefix string, m protoreflect.MessageDescriptor, depth int) {
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			path := append(strings.Split(prefix, "."), f.JSONName())
			text := strings.Join(slices.DeleteFunc(path, func(s string) bool { return s == "" }), ".")
			_, err := api.ParseMeshConfig(nested(text))
			switch {
			case err == nil || !strings.Contains(err.Error(), "does not support"):
				if f.Message() != nil && !f.IsList() && !f.IsMap() && depth < 2 && strings.HasPrefix(string(f.Message().FullName()), "istio.") {
					walk(text, f.Message(), depth+1)
					continue
				}
				if f.IsMap() { // of which these are read
					supported[text+"."+api.TrunksKey], supported[text+"."+api.IdleKey] = true, true
					continue
				}
				supported[text] = true
			default:
				others++
			}
		}
	}
	walk("", (&mesh.MeshConfig{}).ProtoReflect().Descriptor(), 0)
	var b strings.Builder
	b.WriteString("\n## MeshConfig\n\nIn the ConfigMap `istio` of the root namespace, under `mesh`. Applied:\n\n")
	for _, name := range slices.Sorted(maps.Keys(supported)) {
		fmt.Fprintf(&b, "- `%s`\n", name)
	}
	fmt.Fprintf(&b, "\nIstio's other %d fields are refused by name.\n", others)
	return b.String()
}

// nested is a path as YAML, with a value that no field takes.
func nested(path string) string {
	var b strings.Builder
	parts := strings.Split(path, ".")
	for i, p := range parts {
		b.WriteString(strings.Repeat(" ", i) + p + ":")
		if i < len(parts)-1 {
			b.WriteString("\n")
		}
	}
	return b.String() + " [0]\n"
}
