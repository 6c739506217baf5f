package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	yaml "go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "k8s.io/apimachinery/pkg/util/json"
)

// Object is one object of a manifest and where it stands there.
type Object struct {
	File string // as given to Decode
	Line int    // of its first line, from 1
	GVK  schema.GroupVersionKind
	// Value is a pointer to the typed object: *Policy, *MeshPolicy, a type of
	// istio.io/client-go networking/v1 or security/v1 (whatever version was
	// written), of k8s.io/api core/v1, discovery/v1 or apps/v1; or the
	// *unstructured.Unstructured itself for a kind that hasp does not read.
	Value any

	tree map[string]any // as written, for Warnings
	node *yaml.Node     // for Where; nil when lines are not known
	base int            // lines before the document node was cut from
}

// Known reports whether hasp reads the object's kind. The caller decides what
// to do with the others.
func (o Object) Known() bool {
	_, raw := o.Value.(*unstructured.Unstructured)
	return !raw
}

// Meta is the object's metadata.
func (o Object) Meta() metav1.Object {
	m, _ := o.Value.(metav1.Object)
	return m
}

// Written is the object as it stands in the manifest, nil when it was not read
// from one.
func (o Object) Written() *unstructured.Unstructured {
	if o.tree == nil {
		return nil
	}
	return (&unstructured.Unstructured{Object: o.tree}).DeepCopy()
}

// Where is FILE:LINE of a field in the form of field.Path ("spec.peers[0].mtls"),
// or of the nearest thing around it that is written down.
func (o Object) Where(field string) string {
	return o.File + ":" + strconv.Itoa(o.line(field))
}

func (o Object) line(field string) int {
	if o.node == nil {
		return o.Line
	}
	return o.base + lineOf(o.node, parsePath(field))
}

// FromUnstructured turns what a dynamic client hands out into the typed object,
// one of those that Object.Value lists. A kind or a version that hasp does not
// read comes back as it is. Unknown fields are passed over: the object was
// admitted by an API server, perhaps a newer one, and must not be lost for them.
func FromUnstructured(u *unstructured.Unstructured) (any, error) {
	gvk := u.GroupVersionKind()
	k, ok := lookup(gvk.GroupKind())
	if !ok || !k.serves(gvk.Version) {
		return u, nil
	}
	v := reflect.New(k.typ).Interface()
	b, err := json.Marshal(u.Object)
	if err == nil {
		err = kjson.Unmarshal(b, v)
	}
	if err != nil {
		return nil, fmt.Errorf("api: decode %s %s: %w", gvk.Kind, nameOf(u), err)
	}
	return v, nil
}

// nameOf is NAMESPACE/NAME, or NAME when there is no namespace.
func nameOf(m metav1.Object) string {
	name := m.GetName()
	if name == "" && m.GetGenerateName() != "" {
		name = m.GetGenerateName() + "*"
	}
	if m.GetNamespace() == "" {
		return name
	}
	return m.GetNamespace() + "/" + name
}
