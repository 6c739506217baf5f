package apiserver

import (
	"fmt"
	"net/url"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// newScheme knows every built-in type once, under its version and as its own
// internal version, so that nothing is ever converted.
func newScheme(kinds []anyKind) (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	if err := metainternal.AddToScheme(s); err != nil {
		return nil, err
	}
	for _, gv := range []schema.GroupVersion{corev1.SchemeGroupVersion, appsv1.SchemeGroupVersion, authenticationv1.SchemeGroupVersion, authorizationv1.SchemeGroupVersion} {
		metav1.AddToGroupVersion(s, gv)
		if err := s.SetVersionPriority(gv); err != nil {
			return nil, err
		}
	}
	both(s, autoscalingv1.SchemeGroupVersion, &autoscalingv1.Scale{})
	both(s, authenticationv1.SchemeGroupVersion, &authenticationv1.SelfSubjectReview{})
	both(s, authorizationv1.SchemeGroupVersion, &authorizationv1.SelfSubjectAccessReview{})
	both(s, corev1.SchemeGroupVersion, &corev1.PodLogOptions{}, &corev1.PodAttachOptions{})
	for _, k := range kinds {
		if err := addKind(s, k); err != nil {
			return nil, err
		}
	}
	for _, f := range []struct {
		to   any
		conv conversion.ConversionFunc
	}{
		{(*corev1.PodLogOptions)(nil), func(a, b any, _ conversion.Scope) error {
			return logOptions(*a.(*url.Values), b.(*corev1.PodLogOptions))
		}},
		{(*corev1.PodAttachOptions)(nil), func(a, b any, _ conversion.Scope) error {
			return attachOptions(*a.(*url.Values), b.(*corev1.PodAttachOptions))
		}},
	} {
		if err := s.AddConversionFunc((*url.Values)(nil), f.to, f.conv); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func both(s *runtime.Scheme, gv schema.GroupVersion, objects ...runtime.Object) {
	s.AddKnownTypes(gv, objects...)
	s.AddKnownTypes(schema.GroupVersion{Group: gv.Group, Version: runtime.APIVersionInternal}, objects...)
}

func addKind(s *runtime.Scheme, k anyKind) error {
	i := k.info()
	both(s, i.gv, k.object(), k.list())
	s.AddTypeDefaultingFunc(k.object(), func(o any) { k.setDefaults(o.(runtime.Object)) })
	gvks, _, err := s.ObjectKinds(k.object())
	if err != nil {
		return err
	}
	for _, gvk := range gvks {
		err := s.AddFieldLabelConversionFunc(gvk, func(label, value string) (string, string, error) {
			if !slices.Contains(i.selectable, label) {
				return "", "", fmt.Errorf("%q is not a known field selector: only %q", label, i.selectable)
			}
			return label, value, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
