package hasp_test

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"
	"istio.io/api/annotation"
	mesh "istio.io/api/mesh/v1alpha1"
	istio "istio.io/client-go/pkg/clientset/versioned/scheme"
	corev1 "k8s.io/api/core/v1"

	"hasp/api"
	"hasp/inject"
)

// movingDoc has a part that TestMoving writes, between these lines.
const (
	movingDoc   = "docs/moving-from-istio.md"
	movingBegin = "<!-- written by TestMoving -->\n"
	movingEnd   = "<!-- end of what TestMoving writes -->\n"
)

// TestMoving tries what Istio's users have set (kinds, annotations of pods, mesh
// settings) and holds the page about moving to what came of it; -update writes it.
func TestMoving(t *testing.T) {
	var table strings.Builder
	movingKinds(t, &table)
	movingAnnotations(t, &table)
	movingSettings(&table)

	doc, err := os.ReadFile(movingDoc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(doc), movingBegin)
	_, after, found2 := strings.Cut(rest, movingEnd)
	if !found || !found2 {
		t.Fatalf("%s has no part between the lines %q and %q", movingDoc, movingBegin, movingEnd)
	}
	want := before + movingBegin + table.String() + movingEnd + after
	if *update {
		if err := os.WriteFile(movingDoc, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(doc)); diff != "" {
		t.Errorf("%s is not true; go test . -update writes it: -true +written\n%s", movingDoc, diff)
	}
}

// movingKinds are those of Istio's Go client, and the two older ones.
func movingKinds(t *testing.T, w *strings.Builder) {
	t.Helper()
	crds, err := api.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, c := range crds {
		have[c.Spec.Names.Kind+" ("+c.Spec.Group+")"] = true
	}
	all := maps.Clone(have)
	for gvk := range istio.Scheme.AllKnownTypes() {
		// Every kind has a list; what has none is machinery.
		if istio.Scheme.Recognizes(gvk.GroupVersion().WithKind(gvk.Kind+"List")) && strings.HasSuffix(gvk.Group, "istio.io") {
			all[gvk.Kind+" ("+gvk.Group+")"] = true
		}
	}
	fmt.Fprint(w, "\n### Kinds\n\n| kind | |\n| --- | --- |\n")
	for _, k := range slices.Sorted(maps.Keys(all)) {
		verdict := "not read; hasp brings no definition of it"
		if have[k] {
			verdict = "read; field by field in [compatibility](compat.md)"
		}
		fmt.Fprintf(w, "| %s | %s |\n", k, verdict)
	}
}

// annotationSamples are values with which an annotation would do something,
// where "true" is none.
var annotationSamples = map[string]string{
	"sidecar.istio.io/proxyCPU":                             "123m",
	"sidecar.istio.io/proxyCPULimit":                        "2",
	"sidecar.istio.io/proxyMemory":                          "111Mi",
	"sidecar.istio.io/proxyMemoryLimit":                     "1Gi",
	"sidecar.istio.io/proxyImage":                           "example.com/proxy:v1",
	"sidecar.istio.io/inject":                               "false",
	"sidecar.istio.io/interceptionMode":                     "NONE",
	"sidecar.istio.io/logLevel":                             "debug",
	"sidecar.istio.io/nativeSidecar":                        "false",
	"sidecar.istio.io/rewriteAppHTTPProbers":                "true",
	"proxy.istio.io/config":                                 "holdApplicationUntilProxyStarts: false",
	"inject.istio.io/templates":                             "sidecar",
	"traffic.sidecar.istio.io/includeInboundPorts":          "8080",
	"traffic.sidecar.istio.io/excludeInboundPorts":          "9000",
	"traffic.sidecar.istio.io/includeOutboundPorts":         "9000",
	"traffic.sidecar.istio.io/excludeOutboundPorts":         "9000",
	"traffic.sidecar.istio.io/includeOutboundIPRanges":      "10.0.0.0/8",
	"traffic.sidecar.istio.io/excludeOutboundIPRanges":      "10.0.0.0/8",
	"traffic.sidecar.istio.io/excludeInterfaces":            "eth1",
	"traffic.sidecar.istio.io/kubevirtInterfaces":           "eth1",
	"istio.io/reroute-virtual-interfaces":                   "eth1",
	"sidecar.istio.io/statsInclusionPrefixes":               "cluster",
	"sidecar.istio.io/userVolume":                           "[]",
	"sidecar.istio.io/userVolumeMount":                      "[]",
	"status.sidecar.istio.io/port":                          "15020",
	"readiness.status.sidecar.istio.io/initialDelaySeconds": "1",
}

// movingAnnotations injects a pod with each annotation that Istio has for pods,
// and one without, and looks for a difference.
func movingAnnotations(t *testing.T, w *strings.Builder) {
	t.Helper()
	fmt.Fprint(w, "\n### Annotations of pods\n\n| annotation | |\n| --- | --- |\n")
	plain, _, err := injected("", "")
	if err != nil {
		t.Fatal(err)
	}
	list := annotation.AllResourceAnnotations()
	slices.SortFunc(list, func(a, b *annotation.Instance) int { return strings.Compare(a.Name, b.Name) })
	for _, a := range list {
		if a.Hidden || a.Name == api.InjectStatusKey || !slices.Contains(a.Resources, annotation.Pod) {
			continue
		}
		value := annotationSamples[a.Name]
		if value == "" {
			value = "true"
		}
		with, warnings, err := injected(a.Name, value)
		verdict := accepted
		switch {
		case err != nil:
			verdict = refused + ": " + strings.TrimPrefix(err.Error(), "metadata.annotations["+a.Name+"]: ")
		case !reflect.DeepEqual(plain, with):
			verdict = applied
		case len(warnings) > 0:
			verdict = warned
			if why := strings.TrimPrefix(warnings[0], "annotation "+a.Name+" has no effect: "); why != "hasp does not support it" {
				verdict += ": " + why
			}
		}
		fmt.Fprintf(w, "| `%s` | %s |\n", a.Name, strings.ReplaceAll(verdict, "|", `\|`))
	}
}

// injected is a pod's spec after injection with one annotation.
func injected(key, value string) (spec any, warnings []string, err error) {
	notes := map[string]any{}
	if key != "" {
		notes[key] = value
	}
	tree := map[string]any{
		"metadata": map[string]any{"name": "web", "annotations": notes},
		"spec":     map[string]any{"containers": []any{map[string]any{"name": "app", "image": "web"}}},
	}
	ns := &corev1.Namespace{}
	ns.Name, ns.Labels = "shop", map[string]string{api.NamespaceInjectKey: "enabled"}
	r, err := inject.Template(tree, ns.Name, ns, inject.DefaultConfig())
	return r.Tree["spec"], r.Warnings, err
}

// movingSettings asks of each field of Istio's MeshConfig, and of each field
// below those that are not refused, whether hasp reads it.
func movingSettings(w *strings.Builder) {
	fmt.Fprint(w, "\n### Mesh settings (MeshConfig)\n\n")
	read, refused := settingsBelow("", (&mesh.MeshConfig{}).ProtoReflect().Descriptor(), 0)
	fmt.Fprintf(w, "Read: %s.\n\n", quoted(read))
	fmt.Fprintf(w, "Refused by name, so that nobody relies on them: %s.\n", quoted(refused))
}

func settingsBelow(prefix string, d protoreflect.MessageDescriptor, depth int) (read, refused []string) {
	fields := d.Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		path := prefix + f.JSONName()
		_, err := api.ParseMeshConfig(unsuitable(path))
		switch {
		case err != nil && strings.Contains(err.Error(), "does not support"):
			refused = append(refused, path)
		case f.Message() != nil && !f.IsMap() && !f.IsList() && depth < 3 && err != nil && f.Message().ParentFile().Package() == "istio.mesh.v1alpha1":
			r, no := settingsBelow(path+".", f.Message(), depth+1)
			read, refused = append(read, r...), append(refused, no...)
		case f.IsMap(): // of which these are read, and no others
			read, refused = append(read, path+"."+api.TrunksKey, path+"."+api.IdleKey), append(refused, path+".*")
		default:
			read = append(read, path)
		}
	}
	return read, refused
}

// unsuitable is "a: {b: {c: [[]]}}" of a.b.c: a value that suits no field.
func unsuitable(path string) string {
	names := strings.Split(path, ".")
	return strings.Join(names, ": {") + ": [[]]" + strings.Repeat("}", len(names)-1)
}

func quoted(names []string) string {
	slices.Sort(names)
	return "`" + strings.Join(names, "`, `") + "`"
}
