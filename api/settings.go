package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
)

// DecodeSettings reads one YAML document that is no Kubernetes object into the
// struct that into points to, by its json tags, as strictly as Decode reads
// objects. What is not written is left as it was. The Object is for errors about
// values ([Object.Errorf]); it has no kind.
func DecodeSettings(name string, data []byte, into any) (Object, error) {
	o := Object{File: name, Line: 1, Value: into}
	if len(data) > MaxBytes {
		return o, o.Errorf("", "%d bytes are too many; %d MiB are read", len(data), MaxBytes>>20)
	}
	docs := split(data)
	if len(docs) > 1 {
		return o, &Error{File: name, Line: docs[1].base + 1, Detail: "a second document; settings are one"}
	}
	if len(docs) == 0 {
		return o, nil
	}
	doc, problem := parse(docs[0])
	if problem != nil {
		return o, &Error{File: name, Line: problem.line, Detail: problem.text}
	}
	if doc == nil {
		return o, nil
	}
	o.tree, o.node, o.base = doc.tree, doc.node, doc.base
	return o, o.decode(into)
}

// As reads an object of a kind that hasp does not read into a pointer to its Go
// type, as strictly as Decode reads the others.
func (o Object) As(into any) error { return o.decode(into) }

// Tree is the object as it was written, for whoever passes it on. It is a copy.
func (o Object) Tree() map[string]any { return runtime.DeepCopyJSON(o.tree) }

func (o Object) decode(into any) error {
	if errs := o.misfits(reflect.TypeOf(into).Elem()); len(errs) > 0 {
		return errors.Join(errs...)
	}
	b, err := json.Marshal(o.tree)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		return o.Errorf("", "%s", cause(err))
	}
	return nil
}

// misfits are the places where the object does not fit a Go type, in the order
// of the file and not of the alphabet.
func (o Object) misfits(t reflect.Type) []error {
	problems := misfits(o.tree, withStatus(shapeOf(t)))
	slices.SortStableFunc(problems, func(a, b problem) int { return cmp.Compare(o.line(a.field), o.line(b.field)) })
	var errs []error
	for _, p := range problems {
		errs = append(errs, o.Errorf(p.field, "%s", p.detail))
	}
	return errs
}

// withStatus is the shape of a kind whose Go type has no status: an API server
// hands one out all the same, and what it handed out can be read again.
func withStatus(s shape) shape {
	fields := s.fields()
	if _, has := fields["status"]; has {
		return s
	}
	// Nobody is told to write one, so it is not among the known fields of an error.
	s.read = []string{"status"}
	return s
}
