package apiserver

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// strategy is a kind as the generic registry wants to see it. With status it is
// the strategy of the status subresource.
type strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	noWarnings
	kind   anyKind
	status bool
}

var (
	_ rest.RESTCreateStrategy  = strategy{}
	_ rest.RESTUpdateStrategy  = strategy{}
	_ rest.ResetFieldsStrategy = strategy{}
)

func (s strategy) NamespaceScoped() bool                         { return s.kind.info().namespaced }
func (s strategy) AllowCreateOnUpdate(context.Context) bool      { return false }
func (s strategy) AllowUnconditionalUpdate(context.Context) bool { return true }

func (s strategy) PrepareForCreate(_ context.Context, o runtime.Object) { s.kind.prepareCreate(o) }

func (s strategy) PrepareForUpdate(_ context.Context, n, o runtime.Object) {
	s.kind.prepareUpdate(n, o, s.status)
}

func (s strategy) Validate(_ context.Context, o runtime.Object) field.ErrorList {
	return s.kind.check(o)
}

func (s strategy) ValidateUpdate(_ context.Context, n, o runtime.Object) field.ErrorList {
	if s.status {
		return nil
	}
	return s.kind.checkUpdate(n, o)
}

// GetResetFields are the fields an applier never owns through this endpoint.
func (s strategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	i := s.kind.info()
	if !i.status {
		return nil
	}
	reset := "status"
	if s.status {
		reset = "spec"
	}
	return map[fieldpath.APIVersion]*fieldpath.Set{
		fieldpath.APIVersion(i.gv.String()): fieldpath.NewSet(fieldpath.MakePathOrDie(reset)),
	}
}

// gracefulStrategy also lets whoever runs the object end it first: a delete
// marks it, a second one with grace period 0 removes it.
type gracefulStrategy struct{ strategy }

var _ rest.RESTGracefulDeleteStrategy = gracefulStrategy{}

func (s gracefulStrategy) CheckGracefulDelete(_ context.Context, o runtime.Object, opts *metav1.DeleteOptions) bool {
	if opts == nil {
		return false
	}
	s.kind.setGrace(o, opts)
	return true
}
