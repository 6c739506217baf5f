package apiserver

import (
	"context"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// kind describes one built-in kind: what it is called, how it is defaulted,
// checked and printed. Its zero values mean "nothing special". T is the
// versioned type, which also serves as its own internal one.
type kind[T any] struct {
	gv                 schema.GroupVersion
	resource, singular string
	shortNames         []string
	categories         []string
	clusterScoped      bool
	newObject          func() runtime.Object
	newList            func() runtime.Object
	name               validation.ValidateNameFunc
	defaults           func(*T)                          // when decoded, from clients and from the store
	create             func(*T)                          // before the first write
	update             func(new, old *T)                 // before a later one
	validate           func(*T) field.ErrorList          // at every write
	validateUpdate     func(new, old *T) field.ErrorList // at every write after the first
	spec               func(*T) any                      // what counts as a change of generation
	keepStatus         func(to, from *T)                 // copies the status; nil: no status subresource
	keepSpec           func(to, from *T)                 // copies what a status update must not touch
	fields             func(*T) fields.Set               // selectable besides metadata.name and .namespace
	grace              func(*T, *metav1.DeleteOptions)   // decides the grace period; nil: none
	ttl                time.Duration                     // after which it is forgotten; 0: never
	columns            []metav1.TableColumnDefinition
	row                func(*T) []any
}

// anyKind is a kind whatever its type.
type anyKind interface {
	info() kindInfo
	object() runtime.Object
	list() runtime.Object
	setDefaults(runtime.Object)
	prepareCreate(runtime.Object)
	prepareUpdate(new, old runtime.Object, status bool)
	check(runtime.Object) field.ErrorList
	checkUpdate(new, old runtime.Object) field.ErrorList
	fieldSet(runtime.Object) fields.Set
	graceful() bool
	setGrace(runtime.Object, *metav1.DeleteOptions)
	cells(runtime.Object) []any
}

type kindInfo struct {
	gv                     schema.GroupVersion
	resource, singular     string
	shortNames, categories []string
	namespaced, status     bool
	ttl                    time.Duration
	columns                []metav1.TableColumnDefinition
	selectable             []string
}

func (i kindInfo) groupResource() schema.GroupResource {
	return i.gv.WithResource(i.resource).GroupResource()
}

func (k kind[T]) info() kindInfo {
	i := kindInfo{gv: k.gv, resource: k.resource, singular: k.singular, shortNames: k.shortNames, categories: k.categories,
		namespaced: !k.clusterScoped, status: k.keepStatus != nil, ttl: k.ttl, columns: k.columns, selectable: []string{"metadata.name"}}
	if i.namespaced {
		i.selectable = append(i.selectable, "metadata.namespace")
	}
	if k.fields != nil {
		for f := range k.fields(new(T)) {
			i.selectable = append(i.selectable, f)
		}
	}
	return i
}

func (k kind[T]) object() runtime.Object { return k.newObject() }
func (k kind[T]) list() runtime.Object   { return k.newList() }

// typed cannot fail: the server hands a store only objects of its own type.
func typed[T any](o runtime.Object) *T { return any(o).(*T) }

func (k kind[T]) setDefaults(o runtime.Object) {
	if k.defaults != nil {
		k.defaults(typed[T](o))
	}
}

func (k kind[T]) prepareCreate(o runtime.Object) {
	if k.keepStatus != nil {
		k.keepStatus(typed[T](o), new(T))
	}
	if k.create != nil {
		k.create(typed[T](o))
	}
	if k.spec != nil {
		accessor(o).SetGeneration(1)
	}
}

func (k kind[T]) prepareUpdate(n, o runtime.Object, status bool) {
	if status {
		k.keepSpec(typed[T](n), typed[T](o))
		return
	}
	if k.keepStatus != nil {
		k.keepStatus(typed[T](n), typed[T](o))
	}
	if k.update != nil {
		k.update(typed[T](n), typed[T](o))
	}
	if k.spec != nil && !apiequality.Semantic.DeepEqual(k.spec(typed[T](n)), k.spec(typed[T](o))) {
		accessor(n).SetGeneration(accessor(o).GetGeneration() + 1)
	}
}

func (k kind[T]) check(o runtime.Object) field.ErrorList {
	name := k.name
	if name == nil {
		name = validation.NameIsDNSSubdomain
	}
	errs := validation.ValidateObjectMetaAccessor(accessor(o), !k.clusterScoped, name, field.NewPath("metadata"))
	if k.validate != nil {
		errs = append(errs, k.validate(typed[T](o))...)
	}
	return errs
}

func (k kind[T]) checkUpdate(n, o runtime.Object) field.ErrorList {
	errs := k.check(n)
	if k.validateUpdate != nil {
		errs = append(errs, k.validateUpdate(typed[T](n), typed[T](o))...)
	}
	return errs
}

func (k kind[T]) fieldSet(o runtime.Object) fields.Set {
	set := fields.Set{}
	if k.fields != nil {
		set = k.fields(typed[T](o))
	}
	m := accessor(o)
	set["metadata.name"] = m.GetName()
	if !k.clusterScoped {
		set["metadata.namespace"] = m.GetNamespace()
	}
	return set
}

func (k kind[T]) graceful() bool { return k.grace != nil }

func (k kind[T]) setGrace(o runtime.Object, opts *metav1.DeleteOptions) { k.grace(typed[T](o), opts) }

func (k kind[T]) cells(o runtime.Object) []any {
	if k.row == nil {
		return []any{accessor(o).GetName(), age(o)}
	}
	return k.row(typed[T](o))
}

func accessor(o runtime.Object) metav1.Object { return any(o).(metav1.Object) }

// noWarnings is the part of a strategy that this package has no use for.
type noWarnings struct{}

func (noWarnings) WarningsOnCreate(context.Context, runtime.Object) []string { return nil }
func (noWarnings) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}
func (noWarnings) Canonicalize(runtime.Object) {}
