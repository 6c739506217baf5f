package api

import (
	"errors"

	networking "istio.io/client-go/pkg/apis/networking/v1"
	security "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Validate says what is wrong with an object: an [Object], a typed object as
// [FromUnstructured] makes it, or an *unstructured.Unstructured. Every finding
// names the field and the way out; the words are Istio's where Istio has some.
// It refuses what Istio's own validation refuses in the kinds that hasp reads,
// and knows nothing against kinds it does not read.
func Validate(obj any) field.ErrorList {
	switch o := obj.(type) {
	case Object:
		return Validate(o.Value)
	case *unstructured.Unstructured:
		return ValidateUnstructured(o)
	}
	var errs field.ErrorList
	if m, ok := obj.(metav1.Object); ok {
		errs = named(m)
	}
	return append(errs, validateTyped(obj)...)
}

// ValidateUnstructured is Validate for what an API server admits.
func ValidateUnstructured(u *unstructured.Unstructured) field.ErrorList {
	v, err := FromUnstructured(u)
	if err != nil {
		return field.ErrorList{field.Invalid(field.NewPath("spec"), field.OmitValueType{}, cause(err).Error())}
	}
	if v == any(u) {
		return nil // a kind hasp does not read
	}
	return Validate(v)
}

func validateTyped(obj any) field.ErrorList {
	spec := field.NewPath("spec")
	switch o := obj.(type) {
	case *Policy:
		return validatePolicy(o)
	case *MeshPolicy:
		return validateMeshPolicy(o)
	case *security.PeerAuthentication:
		return validatePeerAuthentication(spec, &o.Spec)
	case *security.AuthorizationPolicy:
		return validateAuthorizationPolicy(spec, &o.Spec)
	case *networking.DestinationRule:
		return validateDestinationRule(spec, o.Namespace, &o.Spec)
	case *networking.ServiceEntry:
		return validateServiceEntry(spec, o.Namespace, &o.Spec)
	case *networking.WorkloadEntry:
		return validateWorkloadEntry(spec, &o.Spec)
	case *networking.Gateway:
		return validateGateway(o)
	case *networking.VirtualService:
		return validateVirtualService(spec, o.Namespace, &o.Spec)
	case *corev1.ConfigMap:
		return validateMeshConfigMap(o)
	case *corev1.Service:
		return validateService(spec, &o.Spec)
	case *corev1.Pod:
		return validatePod(spec, &o.Spec)
	case *appsv1.Deployment:
		return validateWorkload(spec, o.Spec.Selector, &o.Spec.Template)
	case *appsv1.StatefulSet:
		return validateWorkload(spec, o.Spec.Selector, &o.Spec.Template)
	case *appsv1.DaemonSet:
		return validateWorkload(spec, o.Spec.Selector, &o.Spec.Template)
	}
	return nil
}

// named checks what every object needs.
func named(m metav1.Object) field.ErrorList {
	if m.GetName() == "" && m.GetGenerateName() == "" {
		return field.ErrorList{field.Required(field.NewPath("metadata", "name"), "name or generateName is required")}
	}
	return nil
}

// validateMeshConfigMap checks mesh-wide settings where they are kept, so that a
// bad one is refused at apply and the last good one goes on.
func validateMeshConfigMap(c *corev1.ConfigMap) field.ErrorList {
	text, ok := c.Data[MeshConfigKey]
	if c.Name != MeshConfigName || !ok {
		return nil
	}
	_, err := ParseMeshConfig(text)
	if err == nil {
		return nil
	}
	problems := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		problems = joined.Unwrap()
	}
	var errs field.ErrorList
	for _, p := range problems {
		errs = append(errs, &field.Error{
			Type:     field.ErrorTypeInvalid,
			Field:    field.NewPath("data").Key(MeshConfigKey).String(),
			BadValue: field.OmitValueType{},
			Detail:   meshDetail(p),
		})
	}
	return errs
}

// meshDetail is a problem without the words that its field already says.
func meshDetail(err error) string {
	var e *MeshConfigError
	if !errors.As(err, &e) {
		return err.Error()
	}
	return e.where() + e.Detail
}
