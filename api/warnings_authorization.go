package api

import (
	securityapi "istio.io/api/security/v1beta1"
	security "istio.io/client-go/pkg/apis/security/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// authorizationPolicy warns of what does less, or more, than it says: hasp
// judges connections, and what is about requests is read as Istio reads it on a
// TCP port.
func (w *warner) authorizationPolicy(spec *field.Path, o *security.AuthorizationPolicy) {
	s := &o.Spec
	switch {
	case TargetsElsewhere(s):
		w.add(spec.Child("targetRefs"), "has no effect: hasp has no waypoints and no Gateway API; write a selector")
		return
	case DryRun(o.Annotations):
		w.add(field.NewPath("metadata", "annotations").Key(DryRunKey), "a dry run decides nothing here")
		return
	case s.GetAction() == securityapi.AuthorizationPolicy_AUDIT:
		w.add(spec.Child("action"), "AUDIT decides nothing, and hasp keeps no audit log of it")
		return
	}
	effect := "so its rule never matches and allows nobody"
	if s.GetAction() == securityapi.AuthorizationPolicy_DENY {
		effect = "so the rule denies whatever else it names"
	}
	const about = "is about requests, and hasp judges connections, "
	for i, r := range s.GetRules() {
		p := spec.Child("rules").Index(i)
		for j, f := range r.GetFrom() {
			if AboutRequestsSource(f.GetSource()) {
				w.add(p.Child("from").Index(j).Child("source"), "%s", about+effect)
			}
		}
		for j, t := range r.GetTo() {
			if AboutRequestsOperation(t.GetOperation()) {
				w.add(p.Child("to").Index(j).Child("operation"), "%s", about+effect)
			}
		}
		for j, c := range r.GetWhen() {
			if AboutRequestsKey(c.GetKey()) {
				w.add(p.Child("when").Index(j).Child("key"), "%s", about+effect)
			}
		}
	}
	if s.GetAction() == securityapi.AuthorizationPolicy_ALLOW && len(s.GetRules()) == 0 {
		w.add(spec.Child("rules"), "none: this allows nobody; write rules: [{}] to allow everybody")
	}
}
