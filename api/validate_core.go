package api

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The rules of Kubernetes without which an object of its kinds could not run
// here; a cluster checks many more.

func validateService(spec *field.Path, s *corev1.ServiceSpec) field.ErrorList {
	ports := spec.Child("ports")
	if len(s.Ports) == 0 && s.Type != corev1.ServiceTypeExternalName && s.ClusterIP != corev1.ClusterIPNone {
		return field.ErrorList{field.Required(ports, "a service needs a port, as in ports: [{name: http, port: 8080}]")}
	}
	var errs field.ErrorList
	names, numbers := map[string]bool{}, map[string]bool{}
	for i, p := range s.Ports {
		at := ports.Index(i)
		if p.Port < 1 || p.Port > 65535 {
			errs = append(errs, field.Invalid(at.Child("port"), p.Port, "must be between 1 and 65535, inclusive"))
		}
		switch {
		case p.Name == "" && len(s.Ports) > 1:
			errs = append(errs, field.Required(at.Child("name"), "ports need names when there are several"))
		case p.Name != "" && names[p.Name]:
			errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
		}
		number := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if numbers[number] {
			errs = append(errs, field.Duplicate(at.Child("port"), p.Port))
		}
		names[p.Name], numbers[number] = true, true
	}
	return errs
}

// validateWorkload checks what makes Pods: a Deployment and its like.
func validateWorkload(spec *field.Path, selector *metav1.LabelSelector, template *corev1.PodTemplateSpec) field.ErrorList {
	var errs field.ErrorList
	s, err := metav1.LabelSelectorAsSelector(selector)
	switch {
	case err != nil:
		errs = append(errs, field.Invalid(spec.Child("selector"), field.OmitValueType{}, err.Error()))
	case selector == nil || s.Empty():
		errs = append(errs, field.Required(spec.Child("selector"), "write matchLabels with labels of the template"))
	case !s.Matches(labels.Set(template.Labels)):
		errs = append(errs, field.Invalid(spec.Child("template", "metadata", "labels"), template.Labels, "`selector` does not match template `labels`"))
	}
	return append(errs, validatePod(spec.Child("template", "spec"), &template.Spec)...)
}

func validatePod(spec *field.Path, s *corev1.PodSpec) field.ErrorList {
	if len(s.Containers) == 0 {
		return field.ErrorList{field.Required(spec.Child("containers"), "a pod needs a container")}
	}
	var errs field.ErrorList
	names := map[string]bool{}
	for i, c := range s.Containers {
		at := spec.Child("containers").Index(i)
		switch {
		case c.Name == "":
			errs = append(errs, field.Required(at.Child("name"), "a container needs a name"))
		case names[c.Name]:
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		names[c.Name] = true
		for j, p := range c.Ports {
			if p.ContainerPort < 1 || p.ContainerPort > 65535 {
				errs = append(errs, field.Invalid(at.Child("ports").Index(j).Child("containerPort"), p.ContainerPort, "must be between 1 and 65535, inclusive"))
			}
		}
	}
	return errs
}
