package apiserver

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/names"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// store keeps the objects of one built-in kind.
type store struct {
	*genericregistry.Store
	info kindInfo
}

func (s store) ShortNames() []string { return s.info.shortNames }
func (s store) Categories() []string { return s.info.categories }

func newStore(k anyKind, scheme *runtime.Scheme, opts generic.RESTOptionsGetter) (store, error) {
	i := k.info()
	st := strategy{ObjectTyper: scheme, NameGenerator: names.SimpleNameGenerator, kind: k}
	s := &genericregistry.Store{
		NewFunc: k.object, NewListFunc: k.list,
		DefaultQualifiedResource:  i.groupResource(),
		SingularQualifiedResource: i.gv.WithResource(i.singular).GroupResource(),
		CreateStrategy:            st, UpdateStrategy: st, DeleteStrategy: st, ResetFieldsStrategy: st,
		TableConvertor: table{k},
		PredicateFunc: func(l labels.Selector, f fields.Selector) storage.SelectionPredicate {
			return storage.SelectionPredicate{Label: l, Field: f, GetAttrs: attributes(k)}
		},
	}
	if k.graceful() {
		s.DeleteStrategy = gracefulStrategy{st}
	}
	if i.ttl > 0 {
		s.TTLFunc = func(runtime.Object, uint64, bool) (uint64, error) { return uint64(i.ttl.Seconds()), nil }
	}
	if err := s.CompleteWithOptions(&generic.StoreOptions{RESTOptions: opts, AttrFunc: attributes(k)}); err != nil {
		return store{}, fmt.Errorf("store of %s: %w", i.resource, err)
	}
	return store{s, i}, nil
}

func attributes(k anyKind) storage.AttrFunc {
	return func(o runtime.Object) (labels.Set, fields.Set, error) {
		return accessor(o).GetLabels(), k.fieldSet(o), nil
	}
}

// statusStore is the status subresource: the same objects, another strategy.
type statusStore struct{ store *genericregistry.Store }

var (
	_ rest.Patcher             = statusStore{}
	_ rest.ResetFieldsStrategy = statusStore{}
)

func newStatusStore(s store, k anyKind) statusStore {
	c := *s.Store
	st := s.CreateStrategy.(strategy)
	st.status = true
	c.UpdateStrategy, c.ResetFieldsStrategy = st, st
	return statusStore{&c}
}

func (s statusStore) New() runtime.Object { return s.store.New() }
func (s statusStore) Destroy()            {} // the main store's connection

func (s statusStore) Get(ctx context.Context, name string, o *metav1.GetOptions) (runtime.Object, error) {
	return s.store.Get(ctx, name, o)
}

// Update never creates: forceAllowCreate is false.
func (s statusStore) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, _ bool, o *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return s.store.Update(ctx, name, info, create, update, false, o)
}

func (s statusStore) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return s.store.GetResetFields()
}

func (s statusStore) ConvertToTable(ctx context.Context, o runtime.Object, opts runtime.Object) (*metav1.Table, error) {
	return s.store.ConvertToTable(ctx, o, opts)
}
