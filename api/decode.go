package api

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// MaxBytes is the most Decode reads at once. One object of a Kubernetes API is
// at most 3 MiB; a file may hold many.
const MaxBytes = 16 << 20

// maxErrors is after how many of them a file is given up.
const maxErrors = 100

// Decode reads a manifest: YAML or JSON, several documents, a List counted as
// its items. A field that a known kind does not have is an error, as is a value
// of the wrong type; each names file, line, object and field ([Error], joined).
// It does not validate; [Validate] does. The objects without an error are
// returned beside the errors of the others.
func Decode(name string, data []byte) ([]Object, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("%s: %d bytes are more than the %d MiB that are read at once; split the file", name, len(data), MaxBytes>>20)
	}
	d := decoder{file: name}
	for _, c := range split(data) {
		for _, one := range splitJSON(c) {
			if len(d.errs) > maxErrors {
				d.errs = append(d.errs, &Error{File: name, Line: one.base + 1, Detail: "too many problems; the rest was not read"})
				return d.objects, errors.Join(d.errs...)
			}
			doc, err := parse(one)
			if err != nil {
				d.errs = append(d.errs, &Error{File: name, Line: err.line, Detail: err.text})
				continue
			}
			if doc != nil {
				d.object(doc.tree, doc.node, doc.base)
			}
		}
	}
	return d.objects, errors.Join(d.errs...)
}

// decoder gathers the objects and errors of one file.
type decoder struct {
	file    string
	objects []Object
	errs    []error
}

func (d *decoder) fail(o *Object, field, format string, args ...any) {
	d.errs = append(d.errs, o.Errorf(field, format, args...))
}

// object decodes one object, or the items of a List.
func (d *decoder) object(tree map[string]any, node *yaml.Node, base int) {
	u := &unstructured.Unstructured{Object: tree}
	o := &Object{File: d.file, Line: base + node.Line, GVK: u.GroupVersionKind(), Value: u, tree: tree, node: node, base: base}
	if !d.named(o, tree) {
		return
	}
	if strings.HasSuffix(o.GVK.Kind, "List") && tree["items"] != nil {
		d.list(o, tree["items"])
		return
	}
	k, ok := lookup(o.GVK.GroupKind())
	switch {
	case !ok && d.misspelt(o):
		return
	case !ok:
		d.objects = append(d.objects, *o)
		return
	case !k.serves(o.GVK.Version):
		d.fail(o, "apiVersion", "there is no %s %s; write %s", o.GVK.GroupVersion(), k.name, strings.Join(k.apiVersions(), " or "))
		return
	}
	if errs := o.misfits(k.typ); len(errs) > 0 {
		d.errs = append(d.errs, errs...)
		return
	}
	v, err := FromUnstructured(u)
	if err != nil {
		d.fail(o, "", "%s", cause(err))
		return
	}
	o.Value = v
	d.objects = append(d.objects, *o)
}

// named checks that the tree says what it is.
func (d *decoder) named(o *Object, tree map[string]any) bool {
	for _, key := range []string{"apiVersion", "kind"} {
		if s, ok := tree[key].(string); !ok || s == "" {
			o.GVK = schema.GroupVersionKind{} // half a name explains nothing
			d.fail(o, key, "an object needs apiVersion and kind, as in apiVersion: v1, kind: Service")
			return false
		}
	}
	if _, err := schema.ParseGroupVersion(tree["apiVersion"].(string)); err != nil {
		d.fail(o, "apiVersion", "must be GROUP/VERSION, as in networking.istio.io/v1, or v1")
		return false
	}
	if m, ok := tree["metadata"]; ok && m != nil {
		if _, ok := m.(map[string]any); !ok {
			d.fail(o, "metadata", "must be an object, not %s", describe(m))
			return false
		}
	}
	return true
}

// misspelt refuses an unknown kind that is nearly one of ours, because passing
// over a Polcy would mean passing over what it protects. In a group of Istio's
// that is every kind that Istio does not have either.
func (d *decoder) misspelt(o *Object) bool {
	names := kindsOf(o.GVK.Group)
	unread, istios := istioUnread[o.GVK.Group]
	distance := 1 // one edit only: a Node is not a Pod
	if istios {
		if slices.Contains(unread, o.GVK.Kind) {
			return false
		}
		names = append(names, unread...)
		distance = len(o.GVK.Kind)/3 + 1
	}
	switch near := nearest(o.GVK.Kind, names, distance); {
	case istios && elsewhere(o.GVK.Kind) != "":
		d.fail(o, "apiVersion", "there is no %s in %s; write %s", o.GVK.Kind, o.GVK.Group, elsewhere(o.GVK.Kind))
	case near != "":
		d.fail(o, "kind", "unknown kind %q in %s; did you mean %q?", o.GVK.Kind, o.GVK.GroupVersion(), near)
	case istios:
		d.fail(o, "kind", "unknown kind %q in %s; there are %s", o.GVK.Kind, o.GVK.GroupVersion(), strings.Join(names, ", "))
	default:
		return false
	}
	return true
}

// list decodes the items of a List.
func (d *decoder) list(o *Object, items any) {
	all, ok := items.([]any)
	if !ok {
		d.fail(o, "items", "must be a list, not %s", describe(items))
		return
	}
	_, nodes := child(o.node, "items")
	for i, item := range all {
		if len(d.errs) > maxErrors {
			return
		}
		at := fmt.Sprintf("items[%d]", i)
		tree, ok := item.(map[string]any)
		if !ok {
			d.fail(o, at, "must be an object, not %s", describe(item))
			continue
		}
		node := o.node
		if nodes != nil {
			if _, n := child(nodes, fmt.Sprint(i)); n != nil {
				node = n
			}
		}
		if strings.HasSuffix(fmt.Sprint(tree["kind"]), "List") {
			d.fail(o, at, "a List in a List; put its items in the outer one")
			continue
		}
		// What kubectl calls a PodList may leave the kind of its items out.
		if kind := strings.TrimSuffix(o.GVK.Kind, "List"); kind != "" && tree["kind"] == nil && tree["apiVersion"] == nil {
			tree["kind"], tree["apiVersion"] = kind, o.GVK.GroupVersion().String()
		}
		d.object(tree, node, o.base)
	}
}

// cause is the innermost error, which says what is wrong without our way there.
func cause(err error) error {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err
}
