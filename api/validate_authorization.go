package api

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	securityapi "istio.io/api/security/v1beta1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateAuthorizationPolicy(spec *field.Path, s *securityapi.AuthorizationPolicy) field.ErrorList {
	errs := validateSelector(spec.Child("selector", "matchLabels"), s.GetSelector())
	if s.GetSelector() != nil && TargetsElsewhere(s) {
		errs = append(errs, field.Forbidden(spec.Child("selector"), "only one of targetRefs or selector can be set; hasp goes by the selector"))
	}
	rules := spec.Child("rules")
	switch s.GetAction() {
	case securityapi.AuthorizationPolicy_CUSTOM:
		errs = append(errs, field.NotSupported(spec.Child("action"), "CUSTOM", []string{"ALLOW", "DENY", "AUDIT"}))
	case securityapi.AuthorizationPolicy_DENY:
		if len(s.GetRules()) == 0 {
			errs = append(errs, field.Required(rules, "a DENY policy without rules will never be triggered; write rules: [{}] to deny everything"))
		}
	}
	if s.GetProvider() != nil && s.GetAction() != securityapi.AuthorizationPolicy_CUSTOM {
		errs = append(errs, field.Forbidden(spec.Child("provider"), "a provider belongs to action CUSTOM only; remove it"))
	}
	for i, r := range s.GetRules() {
		errs = append(errs, validateAuthorizationRule(rules.Index(i), r)...)
	}
	return errs
}

func validateAuthorizationRule(p *field.Path, r *securityapi.Rule) field.ErrorList {
	var errs field.ErrorList
	// A list that is there and empty would match nothing in Istio's words and
	// everything in a reader's.
	if r.From != nil && len(r.From) == 0 {
		errs = append(errs, field.Required(p.Child("from"), "from, if defined, must have at least one element; add a source or remove the field"))
	}
	if r.To != nil && len(r.To) == 0 {
		errs = append(errs, field.Required(p.Child("to"), "to, if defined, must have at least one element; add an operation or remove the field"))
	}
	for i, f := range r.GetFrom() {
		errs = append(errs, validateSource(p.Child("from").Index(i).Child("source"), f.GetSource())...)
	}
	for i, t := range r.GetTo() {
		errs = append(errs, validateOperation(p.Child("to").Index(i).Child("operation"), t.GetOperation())...)
	}
	for i, c := range r.GetWhen() {
		errs = append(errs, validateCondition(p.Child("when").Index(i), c)...)
	}
	return errs
}

func validateSource(p *field.Path, s *securityapi.Source) field.ErrorList {
	if s == nil {
		return field.ErrorList{field.Required(p, "name who may call, as in source: {principals: [cluster.local/ns/shop/sa/web]}")}
	}
	lists := map[string][]string{
		"principals": s.Principals, "notPrincipals": s.NotPrincipals,
		"requestPrincipals": s.RequestPrincipals, "notRequestPrincipals": s.NotRequestPrincipals,
		"namespaces": s.Namespaces, "notNamespaces": s.NotNamespaces,
		"serviceAccounts": s.ServiceAccounts, "notServiceAccounts": s.NotServiceAccounts,
		"trustDomains": s.TrustDomains, "notTrustDomains": s.NotTrustDomains,
		"ipBlocks": s.IpBlocks, "notIpBlocks": s.NotIpBlocks,
		"remoteIpBlocks": s.RemoteIpBlocks, "notRemoteIpBlocks": s.NotRemoteIpBlocks,
	}
	errs := validateLists(p, lists)
	for _, name := range []string{"principals", "notPrincipals"} {
		for i, v := range lists[name] {
			if strings.HasPrefix(v, "spiffe://") {
				errs = append(errs, field.Invalid(p.Child(name).Index(i), v, "a principal is written without spiffe://, as in cluster.local/ns/shop/sa/web"))
			}
		}
	}
	for _, name := range []string{"ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"} {
		errs = append(errs, validateBlocks(p.Child(name), lists[name])...)
	}
	for _, name := range []string{"serviceAccounts", "notServiceAccounts"} {
		errs = append(errs, validateAccounts(p.Child(name), lists[name])...)
	}
	if len(s.ServiceAccounts)+len(s.NotServiceAccounts) > 0 && len(s.Principals)+len(s.NotPrincipals)+len(s.Namespaces)+len(s.NotNamespaces) > 0 {
		errs = append(errs, field.Forbidden(p.Child("serviceAccounts"), "cannot be set together with principals or namespaces; write the other as a source of its own"))
	}
	return errs
}

func validateOperation(p *field.Path, o *securityapi.Operation) field.ErrorList {
	if o == nil {
		return field.ErrorList{field.Required(p, "name what may be called, as in operation: {ports: [\"8080\"]}")}
	}
	errs := validateLists(p, map[string][]string{
		"hosts": o.Hosts, "notHosts": o.NotHosts, "ports": o.Ports, "notPorts": o.NotPorts,
		"methods": o.Methods, "notMethods": o.NotMethods, "paths": o.Paths, "notPaths": o.NotPaths,
	})
	errs = append(errs, validatePorts(p.Child("ports"), o.Ports)...)
	return append(errs, validatePorts(p.Child("notPorts"), o.NotPorts)...)
}

func validateCondition(p *field.Path, c *securityapi.Condition) field.ErrorList {
	key := c.GetKey()
	known := slices.Contains(connectionKeys, key) || slices.Contains(requestKeys, key) ||
		slices.ContainsFunc(requestMaps, func(m string) bool { return strings.HasPrefix(key, m) })
	switch {
	case key == "":
		return field.ErrorList{field.Required(p.Child("key"), "write what is compared, as in source.namespace")}
	case !known:
		return field.ErrorList{field.NotSupported(p.Child("key"), key, slices.Concat(connectionKeys, requestKeys, []string{"request.headers[NAME]", "request.auth.claims[NAME]"}))}
	case len(c.GetValues()) == 0 && len(c.GetNotValues()) == 0:
		return field.ErrorList{field.Required(p.Child("values"), "at least one of values or notValues must be set")}
	}
	var errs field.ErrorList
	for name, list := range map[string][]string{"values": c.GetValues(), "notValues": c.GetNotValues()} {
		errs = append(errs, validatePatterns(p.Child(name), list, false)...)
		switch key {
		case "source.ip", "destination.ip", "remote.ip":
			errs = append(errs, validateBlocks(p.Child(name), list)...)
		case "destination.port":
			errs = append(errs, validatePorts(p.Child(name), list)...)
		case "source.serviceAccount":
			errs = append(errs, validateAccounts(p.Child(name), list)...)
		}
	}
	return errs
}

// validateLists refuses empty values, which would match nothing, in lists in
// the order of their names.
func validateLists(p *field.Path, lists map[string][]string) field.ErrorList {
	var errs field.ErrorList
	var names []string
	set := false
	for name, list := range lists {
		names = append(names, name)
		set = set || len(list) > 0
	}
	if !set {
		return field.ErrorList{field.Required(p, "has no field that says anything; add one, or remove it to match everything")}
	}
	slices.Sort(names)
	for _, name := range names {
		templates := name == "paths" || name == "notPaths" // {*} and {**} have a meaning there
		errs = append(errs, validatePatterns(p.Child(name), lists[name], templates)...)
	}
	return errs
}

// validatePatterns refuses values that would match nothing, whatever their
// writer thought: a DENY that never denies is a hole.
func validatePatterns(p *field.Path, list []string, templates bool) field.ErrorList {
	var errs field.ErrorList
	for i, v := range list {
		switch inner := strings.TrimSuffix(strings.TrimPrefix(v, "*"), "*"); {
		case v == "":
			errs = append(errs, field.Invalid(p.Index(i), v, "an empty value matches nothing; write * for anything that is there"))
		case !templates && (strings.Contains(inner, "*") || len(inner) < len(v)-1):
			errs = append(errs, field.Invalid(p.Index(i), v, "a wildcard is at the beginning or at the end, and only one; write *, web* or *web"))
		}
	}
	return errs
}

func validateAccounts(p *field.Path, list []string) field.ErrorList {
	var errs field.ErrorList
	for i, v := range list {
		if strings.Contains(v, "*") || strings.Count(v, "/") > 1 {
			errs = append(errs, field.Invalid(p.Index(i), v, "a service account is NAMESPACE/NAME, or NAME for one of this namespace, without wildcards; use principals for those"))
		}
	}
	return errs
}

func validateBlocks(p *field.Path, list []string) field.ErrorList {
	var errs field.ErrorList
	for i, v := range list {
		_, err := netip.ParsePrefix(v)
		if err != nil && !isAddress(v) {
			errs = append(errs, field.Invalid(p.Index(i), v, "neither an address nor a range; write 10.0.0.1 or 10.0.0.0/8"))
		}
	}
	return errs
}

func validatePorts(p *field.Path, list []string) field.ErrorList {
	var errs field.ErrorList
	for i, v := range list {
		if n, err := strconv.ParseUint(v, 10, 16); err != nil || n == 0 {
			errs = append(errs, field.Invalid(p.Index(i), v, "port must be in range 1..65535; write the port of the container, not of the Service"))
		}
	}
	return errs
}
