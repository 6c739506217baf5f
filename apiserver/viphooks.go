package apiserver

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
)

// The hooks by which writing a Service takes and gives back its addresses. The
// registry calls a begin hook before the write and the function it returns
// after it, with whether the write was done.

func (v *vips) beginCreate(_ context.Context, o runtime.Object, opts *metav1.CreateOptions) (genericregistry.FinishFunc, error) {
	s := o.(*corev1.Service)
	return v.begin(s, len(opts.DryRun) > 0)
}

func (v *vips) beginUpdate(_ context.Context, n, o runtime.Object, opts *metav1.UpdateOptions) (genericregistry.FinishFunc, error) {
	s, old := n.(*corev1.Service), o.(*corev1.Service)
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		clearAddresses(s)
		return func(_ context.Context, done bool) {
			if done && len(opts.DryRun) == 0 {
				v.release(old)
			}
		}, nil
	}
	if old.Spec.ClusterIP != "" && old.Spec.Type != corev1.ServiceTypeExternalName {
		keepAddresses(s, old)
		return func(context.Context, bool) {}, nil
	}
	return v.begin(s, len(opts.DryRun) > 0)
}

// keepAddresses fills in what a manifest without addresses leaves out.
func keepAddresses(s, old *corev1.Service) {
	if s.Spec.ClusterIP == "" {
		s.Spec.ClusterIP = old.Spec.ClusterIP
	}
	if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP == old.Spec.ClusterIP {
		s.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
	}
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = slices.Clone(old.Spec.IPFamilies)
	}
	if s.Spec.IPFamilyPolicy == nil {
		s.Spec.IPFamilyPolicy = old.Spec.IPFamilyPolicy
	}
}

func clearAddresses(s *corev1.Service) {
	s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = "", nil, nil, nil
}

// begin gives s its addresses; they are given back when the write fails.
func (v *vips) begin(s *corev1.Service, dryRun bool) (genericregistry.FinishFunc, error) {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		clearAddresses(s)
		return func(context.Context, bool) {}, nil
	}
	if err := v.allocate(s); err != nil {
		return nil, apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), s.Name, field.ErrorList{err})
	}
	return func(_ context.Context, done bool) {
		if !done || dryRun {
			v.release(s)
		}
	}, nil
}

func (v *vips) afterDelete(o runtime.Object, opts *metav1.DeleteOptions) {
	if len(opts.DryRun) == 0 {
		v.release(o.(*corev1.Service))
	}
}
