package api

import (
	"fmt"

	networking "istio.io/client-go/pkg/apis/networking/v1"
	security "istio.io/client-go/pkg/apis/security/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Warnings are what a user should know about a valid object that probably means
// something else than it seems to, or asks for what hasp does not do. It takes
// what [Validate] takes; some warnings need the object as it was written, so an
// [Object] or an *unstructured.Unstructured has more of them than a typed one.
// A policy of the lab has none: its commands print nothing but their outcome.
func Warnings(obj any) []string {
	switch o := obj.(type) {
	case Object:
		return append(typedWarnings(o.Value), writtenWarnings(o.GVK.Kind, o.tree)...)
	case *unstructured.Unstructured:
		return WarningsUnstructured(o)
	}
	return typedWarnings(obj)
}

// WarningsUnstructured is Warnings for what an API server admits.
func WarningsUnstructured(u *unstructured.Unstructured) []string {
	v, err := FromUnstructured(u)
	if err != nil || v == any(u) {
		return nil
	}
	return append(typedWarnings(v), writtenWarnings(u.GetKind(), u.Object)...)
}

func typedWarnings(obj any) []string {
	var w warner
	spec := field.NewPath("spec")
	switch o := obj.(type) {
	case *Policy:
		scope := "every service of the namespace"
		if len(o.Spec.Targets) > 0 {
			scope = "its targets"
		}
		w.policy(spec, o.Spec, scope)
	case *MeshPolicy:
		w.policy(spec, o.Spec, "every service without a policy of its own")
	case *security.PeerAuthentication:
		if o.Spec.Selector != nil && len(o.Spec.Selector.MatchLabels) == 0 {
			w.add(spec.Child("selector"), "no labels: it is for the whole namespace")
		}
	case *security.AuthorizationPolicy:
		w.authorizationPolicy(spec, o)
	case *networking.DestinationRule:
		w.destinationRule(spec, &o.Spec)
	case *networking.Gateway:
		w.gateway(spec, &o.Spec)
	case *networking.VirtualService:
		w.virtualService(spec, &o.Spec)
	}
	return w.found
}

// warner gathers warnings.
type warner struct{ found []string }

func (w *warner) add(p *field.Path, format string, args ...any) {
	w.found = append(w.found, p.String()+": "+fmt.Sprintf(format, args...))
}

func (w *warner) policy(spec *field.Path, s PolicySpec, scope string) {
	mtls := false
	for i, p := range s.Peers {
		mtls = mtls || p.HasMTLS
		if p.AllowTLS {
			w.add(spec.Child("peers").Index(i).Child("mtls", "allowTls"), "is not consulted; write mode: PERMISSIVE to accept plaintext as well")
		}
	}
	if !mtls {
		w.add(spec.Child("peers"), "no mtls: this turns mutual TLS off for %s, and clients that speak it will fail; add \"- mtls: {}\" to require it", scope)
	}
	if len(s.Origins) > 0 {
		w.add(spec.Child("origins"), "hasp does not check end-user tokens yet; requests pass without one")
	}
}

// writtenWarnings are about what a typed object cannot tell any more: DISABLE is
// the zero value of a mode, so "tls: {}" and "tls: {mode: DISABLE}" become one.
func writtenWarnings(kind string, tree map[string]any) []string {
	spec, _ := tree["spec"].(map[string]any)
	if kind != "DestinationRule" || spec == nil {
		return nil
	}
	var w warner
	w.tlsWithoutMode(field.NewPath("spec", "trafficPolicy"), spec["trafficPolicy"])
	for i, s := range asList(spec["subsets"]) {
		if subset, ok := s.(map[string]any); ok {
			w.tlsWithoutMode(field.NewPath("spec", "subsets").Index(i).Child("trafficPolicy"), subset["trafficPolicy"])
		}
	}
	return w.found
}

func (w *warner) tlsWithoutMode(p *field.Path, policy any) {
	settings, ok := policy.(map[string]any)
	if !ok {
		return
	}
	if tls, ok := settings["tls"].(map[string]any); ok && tls["mode"] == nil {
		w.add(p.Child("tls"), "no mode: that means DISABLE, plaintext; write mode: ISTIO_MUTUAL for mutual TLS, or mode: DISABLE if you mean it")
	}
	for i, s := range asList(settings["portLevelSettings"]) {
		w.tlsWithoutMode(p.Child("portLevelSettings").Index(i), s)
	}
}

func asList(v any) []any {
	l, _ := v.([]any)
	return l
}
