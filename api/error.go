package api

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Error is one thing wrong with a manifest: where, in what, and the way out.
type Error struct {
	File   string
	Line   int    // from 1
	Object string // "Policy microservices-demo/default"; empty before that is known
	Field  string // "spec.peers[0].mtls.mode"; empty for the object as a whole
	Detail string
}

// Error is FILE:LINE: OBJECT: FIELD: DETAIL, without the parts not known.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s:%d: ", e.File, e.Line)
	if e.Object != "" {
		s += e.Object + ": "
	}
	if e.Field != "" {
		s += e.Field + ": "
	}
	return s + e.Detail
}

// Errorf is something wrong with a field of the object, in the form of
// field.Path, at its line; the empty field is the object as a whole.
func (o Object) Errorf(field, format string, args ...any) *Error {
	e := &Error{File: o.File, Line: o.line(field), Field: field, Detail: fmt.Sprintf(format, args...)}
	if o.GVK.Kind != "" && o.tree != nil {
		e.Object = strings.TrimSuffix(o.GVK.Kind+" "+nameOf(&unstructured.Unstructured{Object: o.tree}), " ")
	}
	return e
}

// PodError is one thing wrong with a pod, or with the template of pods.
type PodError struct {
	Field string // of the pod, in the form of field.Path; "spec" for all of it
	Text  string // a sentence that names the place itself
}

// Error is the sentence.
func (e *PodError) Error() string { return e.Text }

// WrongPod is a PodError about a field.
func WrongPod(field, format string, args ...any) *PodError {
	return &PodError{Field: field, Text: fmt.Sprintf(format, args...)}
}

// WrongAnnotation is a PodError that names an annotation and its value.
func WrongAnnotation(key, value, format string, args ...any) *PodError {
	return WrongPod("metadata.annotations["+key+"]", "annotation %s: %q: %s", key, value, fmt.Sprintf(format, args...))
}
