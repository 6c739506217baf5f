package apiserver

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
)

// scaleREST is deployments/scale: the number of replicas, as kubectl scale
// reads and writes it.
type scaleREST struct{ store *genericregistry.Store }

var (
	_ rest.Patcher                  = scaleREST{}
	_ rest.GroupVersionKindProvider = scaleREST{}
)

func (scaleREST) New() runtime.Object { return &autoscalingv1.Scale{} }
func (scaleREST) Destroy()            {}

func (scaleREST) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return autoscalingv1.SchemeGroupVersion.WithKind("Scale")
}

func (r scaleREST) Get(ctx context.Context, name string, o *metav1.GetOptions) (runtime.Object, error) {
	d, err := r.store.Get(ctx, name, o)
	if err != nil {
		return nil, err
	}
	return scaleOf(d.(*appsv1.Deployment)), nil
}

func (r scaleREST) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, _ bool, o *metav1.UpdateOptions) (runtime.Object, bool, error) {
	// The validation functions expect a Scale and are applied inside.
	obj, _, err := r.store.Update(ctx, name, scaled{info, update}, rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, o)
	if err != nil {
		return nil, false, err
	}
	return scaleOf(obj.(*appsv1.Deployment)), false, nil
}

func (r scaleREST) ConvertToTable(ctx context.Context, o, opts runtime.Object) (*metav1.Table, error) {
	s, ok := o.(*autoscalingv1.Scale)
	if !ok {
		return nil, fmt.Errorf("apiserver: %T is not a Scale", o)
	}
	return &metav1.Table{
		ListMeta:          metav1.ListMeta{ResourceVersion: s.ResourceVersion},
		ColumnDefinitions: columns("Name", "Desired", "Available", "Age"),
		Rows:              []metav1.TableRow{{Cells: []any{s.Name, fmt.Sprint(s.Spec.Replicas), fmt.Sprint(s.Status.Replicas), age(s)}, Object: runtime.RawExtension{Object: s}}},
	}, nil
}

func scaleOf(d *appsv1.Deployment) *autoscalingv1.Scale {
	s := &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: d.Name, Namespace: d.Namespace, UID: d.UID, ResourceVersion: d.ResourceVersion, CreationTimestamp: d.CreationTimestamp},
		Status:     autoscalingv1.ScaleStatus{Replicas: d.Status.Replicas, Selector: metav1.FormatLabelSelector(d.Spec.Selector)},
	}
	if d.Spec.Replicas != nil {
		s.Spec.Replicas = *d.Spec.Replicas
	}
	return s
}

// scaled is an update of a Deployment by an update of its Scale.
type scaled struct {
	info   rest.UpdatedObjectInfo
	update rest.ValidateObjectUpdateFunc
}

func (u scaled) Preconditions() *metav1.Preconditions { return u.info.Preconditions() }

func (u scaled) UpdatedObject(ctx context.Context, old runtime.Object) (runtime.Object, error) {
	d := old.DeepCopyObject().(*appsv1.Deployment)
	was := scaleOf(d)
	obj, err := u.info.UpdatedObject(ctx, was)
	if err != nil {
		return nil, err
	}
	s, ok := obj.(*autoscalingv1.Scale)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("expected a Scale, got %T", obj))
	}
	if u.update != nil {
		if err := u.update(ctx, s, was); err != nil {
			return nil, err
		}
	}
	d.Spec.Replicas = &s.Spec.Replicas
	d.ResourceVersion = s.ResourceVersion
	return d, nil
}
