package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/api"
	"hasp/mesh"
)

// What becomes of an object when a candidate is applied, or deleted.
const (
	Created     = "created"
	Changed     = "changed"
	Same        = "unchanged"
	Deleted     = "deleted"
	NotThere    = "is not there"
	NotMeasured = "not measured: hasp goes by the pods, which follow later"
	NotRead     = "not measured: hasp does not read this kind"
)

// Candidate is an object that somebody thinks of applying, and what would
// become of it.
type Candidate struct {
	Object mesh.Origin
	What   string
}

// String is "PeerAuthentication shop/default created".
func (c Candidate) String() string { return c.Object.Kind + " " + c.Object.Ref() + " " + c.What }

// Apply is a cluster's objects with manifests applied over them, or, with
// remove, deleted from them; o itself is not changed. now is the age that new
// objects get. Each manifest is validated; the errors of all of them come at
// once, each with its file and line; so is an object that is there twice, of which
// kubectl takes the later. An object without a namespace is in
// namespace, as kubectl -n would put it.
func (o *Objects) Apply(manifests []api.Object, namespace string, remove bool, now time.Time) (*Objects, []Candidate, error) {
	out := &Objects{}
	from, to := reflect.ValueOf(o).Elem(), reflect.ValueOf(out).Elem()
	for i := range from.NumField() {
		to.Field(i).Set(reflect.AppendSlice(reflect.Zero(from.Field(i).Type()), from.Field(i)))
	}
	var said []Candidate
	errs := []error{Repeated(manifests, namespace)}
	for _, m := range manifests {
		if err := invalid(m); err != nil && !remove {
			errs = append(errs, err)
			continue
		}
		meta := m.Meta()
		if !namespaced(m) {
			meta.SetNamespace("")
		} else if meta.GetNamespace() == "" {
			meta.SetNamespace(namespace)
		}
		c := Candidate{Object: mesh.Origin{Kind: m.GVK.Kind, Namespace: meta.GetNamespace(), Name: meta.GetName()}}
		trim(m.Value)
		c.What = out.apply(m, remove, now)
		said = append(said, c)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	return out, said, nil
}

// Repeated finds objects that are there twice, of which kubectl takes the later.
func Repeated(manifests []api.Object, namespace string) error {
	var errs []error
	seen := map[string]string{} // where each stands
	for _, m := range manifests {
		in, name := m.Meta().GetNamespace(), m.Meta().GetName()
		switch {
		case name == "":
			continue
		case !namespaced(m):
			in = ""
		case in == "":
			in = namespace
		}
		key := fmt.Sprint(m.GVK.GroupKind(), " ", in, "/", name)
		if first, twice := seen[key]; twice {
			errs = append(errs, m.Errorf("", "it is already at %s; keep one of the two", first))
			continue
		}
		seen[key] = m.Where("")
	}
	return errors.Join(errs...)
}

// ReadCandidate reads manifests for Apply from a stream, which name stands for
// in errors.
func ReadCandidate(in io.Reader, name string) ([]api.Object, error) {
	data, err := io.ReadAll(io.LimitReader(in, api.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	objects, err := api.Decode(name, data)
	if err == nil && len(objects) == 0 {
		err = fmt.Errorf("%s: there is no object in it", name)
	}
	return objects, err
}

// apply one object and say what became of it.
func (o *Objects) apply(m api.Object, remove bool, now time.Time) string {
	list, ok := o.list(m.Value)
	switch {
	case !m.Known():
		return NotRead
	case !ok, list.Type() == reflect.TypeFor[[]*corev1.Pod]():
		return NotMeasured
	}
	at := -1
	for i := range list.Len() {
		have := list.Index(i).Interface().(metav1.Object)
		if have.GetNamespace() == m.Meta().GetNamespace() && have.GetName() == m.Meta().GetName() {
			at = i
		}
	}
	switch {
	case remove && at < 0:
		return NotThere
	case remove:
		list.Set(reflect.AppendSlice(list.Slice(0, at), list.Slice(at+1, list.Len())))
		return Deleted
	case at < 0:
		m.Meta().SetCreationTimestamp(metav1.NewTime(now.Truncate(time.Second))) // as an API server writes it
		list.Set(reflect.Append(list, reflect.ValueOf(m.Value)))
		return Created
	}
	have := list.Index(at).Interface()
	over(have, m.Value)
	if says(have) == says(m.Value) {
		return Same
	}
	list.Index(at).Set(reflect.ValueOf(m.Value))
	return Changed
}

// list is that of an object's type, and false when there is none.
func (o *Objects) list(v any) (reflect.Value, bool) {
	fields := reflect.ValueOf(o).Elem()
	for i := range fields.NumField() {
		if f := fields.Field(i); f.Type().Elem() == reflect.TypeOf(v) {
			// Of Deployments Build reads those without pods only.
			return f, fields.Type().Field(i).Name != "Deployments"
		}
	}
	return reflect.Value{}, false
}

// over gives a manifest what an API server keeps when it is applied over an
// object: who it is, and of a Service what it was given.
func over(have, manifest any) {
	old, m := have.(metav1.Object), manifest.(metav1.Object)
	m.SetUID(old.GetUID())
	m.SetCreationTimestamp(old.GetCreationTimestamp())
	m.SetResourceVersion(old.GetResourceVersion())
	m.SetGeneration(old.GetGeneration())
	if was, ok := have.(*corev1.Service); ok {
		s := manifest.(*corev1.Service)
		if s.Spec.ClusterIP == "" && len(s.Spec.ClusterIPs) == 0 && s.Spec.Type != corev1.ServiceTypeExternalName {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = was.Spec.ClusterIP, was.Spec.ClusterIPs
		}
		if len(s.Spec.IPFamilies) == 0 {
			s.Spec.IPFamilies = was.Spec.IPFamilies
		}
	}
}

// says is what an object says to hasp, to compare by. Of a Service it is what
// Build makes of it, since an API server fills in the rest.
func says(v any) string {
	m := v.(metav1.Object)
	labels := maps.Clone(m.GetLabels())
	parts := []any{labels, only(m.GetAnnotations(), annotationsRead...)}
	switch v := v.(type) {
	case *corev1.Service:
		parts = append(parts, service(v), v.Spec.ExternalName, v.Spec.PublishNotReadyAddresses, v.Spec.IPFamilies)
	case *corev1.Namespace:
		delete(labels, corev1.LabelMetadataName) // the API server's
	default:
		content, _ := json.Marshal(v) // what was decoded from JSON can be encoded
		var fields map[string]json.RawMessage
		_ = json.Unmarshal(content, &fields)
		for _, k := range []string{"metadata", "status", "kind", "apiVersion"} {
			delete(fields, k)
		}
		parts = append(parts, fields)
	}
	var b bytes.Buffer
	_ = json.NewEncoder(&b).Encode(parts)
	return b.String()
}
