package apiserver

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/warning"
)

// admit is what stands between a request and the store: Config.NewPod,
// Config.Validate, Config.Warnings and Config.Foretell, and the rules about Namespaces.
type admit struct {
	cfg Config
	// namespace reads a Namespace from the store.
	namespace func(ctx context.Context, name string) (*corev1.Namespace, error)
}

var (
	_ admission.MutationInterface   = &admit{}
	_ admission.ValidationInterface = &admit{}
)

func (a *admit) Handles(admission.Operation) bool { return true }

// Admit completes new Pods.
func (a *admit) Admit(ctx context.Context, at admission.Attributes, _ admission.ObjectInterfaces) error {
	p, ok := at.GetObject().(*corev1.Pod)
	if !ok || a.cfg.NewPod == nil || at.GetOperation() != admission.Create || at.GetSubresource() != "" {
		return nil
	}
	ns, err := a.namespace(ctx, at.GetNamespace())
	if err != nil {
		return err
	}
	a.cfg.NewPod(p, ns.Labels)
	return nil
}

func (a *admit) Validate(ctx context.Context, at admission.Attributes, _ admission.ObjectInterfaces) error {
	switch at.GetOperation() {
	case admission.Delete:
		if err := permanent(at); err != nil {
			return err
		}
		return a.foretellDelete(ctx, at)
	case admission.Create:
		if err := a.namespaced(ctx, at); err != nil {
			return err
		}
		return a.validate(ctx, at)
	case admission.Update:
		return a.validate(ctx, at)
	}
	return nil
}

// permanent are the Namespaces that everything counts on.
func permanent(at admission.Attributes) error {
	ns := corev1.Resource("namespaces")
	if at.GetResource().GroupResource() == ns && slices.Contains(permanentNamespaces, at.GetName()) {
		return apierrors.NewForbidden(ns, at.GetName(), fmt.Errorf("this namespace may not be deleted"))
	}
	return nil
}

// namespaced refuses new objects in a Namespace that is missing or going, with
// the words of a cluster.
func (a *admit) namespaced(ctx context.Context, at admission.Attributes) error {
	if at.GetNamespace() == "" || at.GetSubresource() != "" || at.GetKind().GroupKind() == corev1.SchemeGroupVersion.WithKind("Namespace").GroupKind() {
		return nil
	}
	ns, err := a.namespace(ctx, at.GetNamespace())
	if err != nil {
		return err
	}
	if ns.DeletionTimestamp != nil && at.GetResource().Resource != "events" {
		return apierrors.NewForbidden(at.GetResource().GroupResource(), at.GetName(),
			fmt.Errorf("unable to create new content in namespace %s because it is being terminated", ns.Name))
	}
	return nil
}

func (a *admit) validate(ctx context.Context, at admission.Attributes) error {
	if at.GetSubresource() != "" {
		return nil
	}
	u, err := content(at.GetObject())
	if err != nil || u == nil {
		return err
	}
	old, err := content(at.GetOldObject())
	if err != nil {
		return err
	}
	if old != nil && equal(old.Object["spec"], u.Object["spec"]) && equal(old.Object["data"], u.Object["data"]) {
		return nil // an object that was let in before a rule existed can still be labelled and deleted
	}
	if a.cfg.Validate != nil {
		if errs := a.cfg.Validate(u); len(errs) > 0 {
			return apierrors.NewInvalid(at.GetKind().GroupKind(), at.GetName(), errs)
		}
	}
	if a.cfg.Warnings != nil {
		for _, w := range a.cfg.Warnings(u) {
			warning.AddWarning(ctx, "", w)
		}
	}
	a.foretell(ctx, at, u, false)
	return nil
}

func (a *admit) foretellDelete(ctx context.Context, at admission.Attributes) error {
	old, err := content(at.GetOldObject())
	if err != nil || old == nil || at.GetSubresource() != "" {
		return err
	}
	a.foretell(ctx, at, old, true)
	return nil
}

// foretell on a dry run only: what it tells is of no use to who has applied it.
func (a *admit) foretell(ctx context.Context, at admission.Attributes, u *unstructured.Unstructured, remove bool) {
	if a.cfg.Foretell == nil || !at.IsDryRun() {
		return
	}
	for _, w := range a.cfg.Foretell(ctx, u, remove) {
		warning.AddWarning(ctx, "", w)
	}
}

// content is the object as Config.Validate wants it: custom resources as they
// are, ConfigMaps (mesh-wide settings are in one) converted, else nil.
func content(o runtime.Object) (*unstructured.Unstructured, error) {
	switch o := o.(type) {
	case *unstructured.Unstructured:
		return o, nil
	case *corev1.ConfigMap:
		m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		u := &unstructured.Unstructured{Object: m}
		u.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
		return u, nil
	}
	return nil, nil
}
