package apiserver

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func deploymentKind() anyKind {
	return kind[appsv1.Deployment]{
		gv: appsv1.SchemeGroupVersion, resource: "deployments", singular: "deployment", shortNames: []string{"deploy"}, categories: []string{"all"},
		newObject:      func() runtime.Object { return &appsv1.Deployment{} },
		newList:        func() runtime.Object { return &appsv1.DeploymentList{} },
		defaults:       defaultDeployment,
		validate:       validateDeployment,
		validateUpdate: validateDeploymentUpdate,
		spec:           func(d *appsv1.Deployment) any { return d.Spec },
		keepStatus:     func(to, from *appsv1.Deployment) { to.Status = from.Status },
		keepSpec:       func(to, from *appsv1.Deployment) { to.Spec = from.Spec },
		columns:        columns("Name", "Ready", "Up-to-date", "Available", "Age", "|", "Containers", "Images", "Selector"),
		row:            deploymentRow,
	}
}

func defaultDeployment(d *appsv1.Deployment) {
	s := &d.Spec
	orDefaultPtr(&s.Replicas, 1)
	orDefaultPtr(&s.RevisionHistoryLimit, 10)
	orDefaultPtr(&s.ProgressDeadlineSeconds, 600)
	orDefault(&s.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if s.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		orDefaultPtr(&s.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		orDefaultPtr(&s.Strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		orDefaultPtr(&s.Strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	defaultPodSpec(&s.Template.Spec)
}

func validateDeployment(d *appsv1.Deployment) field.ErrorList {
	p := field.NewPath("spec")
	s := d.Spec
	var errs field.ErrorList
	if *s.Replicas < 0 {
		errs = append(errs, field.Invalid(p.Child("replicas"), *s.Replicas, "must be greater than or equal to 0"))
	}
	errs = append(errs, oneOf(s.Strategy.Type, p.Child("strategy", "type"), appsv1.RollingUpdateDeploymentStrategyType, appsv1.RecreateDeploymentStrategyType)...)
	errs = append(errs, validateSelector(s.Selector, s.Template.Labels, p)...)
	t := p.Child("template", "spec")
	errs = append(errs, validatePodSpec(&s.Template.Spec, t)...)
	if r := s.Template.Spec.RestartPolicy; r != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(t.Child("restartPolicy"), r, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	return errs
}

func validateSelector(sel *metav1.LabelSelector, template map[string]string, p *field.Path) field.ErrorList {
	if sel == nil {
		return field.ErrorList{field.Required(p.Child("selector"), "")}
	}
	errs := metavalidation.ValidateLabelSelector(sel, metavalidation.LabelSelectorValidationOptions{}, p.Child("selector"))
	if len(sel.MatchLabels)+len(sel.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(p.Child("selector"), sel, "empty selector is invalid for deployment"))
	}
	ls, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		return errs // already said
	}
	if !ls.Empty() && !ls.Matches(labels.Set(template)) {
		errs = append(errs, field.Invalid(p.Child("template", "metadata", "labels"), template, "`selector` does not match template `labels`"))
	}
	return errs
}

func validateDeploymentUpdate(n, o *appsv1.Deployment) field.ErrorList {
	return validation.ValidateImmutableField(n.Spec.Selector, o.Spec.Selector, field.NewPath("spec", "selector"))
}

func deploymentRow(d *appsv1.Deployment) []any {
	var names, images []string
	for _, c := range d.Spec.Template.Spec.Containers {
		names, images = append(names, c.Name), append(images, c.Image)
	}
	var want int32
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	return []any{d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, want), fmt.Sprint(d.Status.UpdatedReplicas),
		fmt.Sprint(d.Status.AvailableReplicas), age(d), strings.Join(names, ","), strings.Join(images, ","), metav1.FormatLabelSelector(d.Spec.Selector)}
}
