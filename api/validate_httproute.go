package api

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	networkingapi "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateHTTPRoute(p *field.Path, r *networkingapi.HTTPRoute) field.ErrorList {
	if r == nil {
		return field.ErrorList{field.Required(p, "http route may not be null")}
	}
	errs := validateRouteAction(p, r)
	for i, m := range r.Match {
		errs = append(errs, validateHTTPMatch(p.Child("match").Index(i), m)...)
	}
	errs = append(errs, validateDestinations(p.Child("route"), r.Route)...)
	errs = append(errs, validateDuration(p.Child("timeout"), r.Timeout)...)
	errs = append(errs, validateFault(p.Child("fault"), r.Fault)...)
	errs = append(errs, validateRetries(p.Child("retries"), r.Retries)...)
	errs = append(errs, validateRedirect(p.Child("redirect"), r.Redirect)...)
	errs = append(errs, validateRewrite(p.Child("rewrite"), r.Rewrite)...)
	errs = append(errs, validateShare(p.Child("mirrorPercentage"), r.MirrorPercentage)...)
	if r.Mirror != nil {
		errs = append(errs, validateDestination(p.Child("mirror"), r.Mirror)...)
	}
	for i, m := range r.Mirrors {
		at := p.Child("mirrors").Index(i)
		errs = append(errs, validateDestination(at.Child("destination"), m.GetDestination())...)
		errs = append(errs, validateShare(at.Child("percentage"), m.GetPercentage())...)
	}
	if r.DirectResponse != nil {
		errs = append(errs, validateStatus(p.Child("directResponse", "status"), int64(r.DirectResponse.Status))...)
	}
	return errs
}

// validateRouteAction: a route does one thing.
func validateRouteAction(p *field.Path, r *networkingapi.HTTPRoute) field.ErrorList {
	var actions []string
	for _, a := range []struct {
		name    string
		written bool
	}{
		{"route", len(r.Route) > 0}, {"redirect", r.Redirect != nil},
		{"directResponse", r.DirectResponse != nil}, {"delegate", r.Delegate != nil},
	} {
		if a.written {
			actions = append(actions, a.name)
		}
	}
	var errs field.ErrorList
	switch {
	case len(actions) == 0:
		errs = append(errs, field.Required(p.Child("route"), "HTTP route, redirect or direct_response is required"))
	case len(actions) > 1:
		errs = append(errs, field.Forbidden(p.Child(actions[1]), fmt.Sprintf("HTTP route cannot contain both %s and %s; keep one", actions[0], actions[1])))
	}
	for _, alone := range []struct {
		name    string
		written bool
	}{{"redirect", r.Redirect != nil}, {"directResponse", r.DirectResponse != nil}} {
		if alone.written && r.Fault != nil {
			errs = append(errs, field.Forbidden(p.Child("fault"), fmt.Sprintf("HTTP route cannot contain both fault and %s; keep one", alone.name)))
		}
		if alone.written && r.Rewrite != nil {
			errs = append(errs, field.Forbidden(p.Child("rewrite"), fmt.Sprintf("HTTP route rule cannot contain both rewrite and %s; keep one", alone.name)))
		}
	}
	return errs
}

func validateHTTPMatch(p *field.Path, m *networkingapi.HTTPMatchRequest) field.ErrorList {
	errs := validateStringMatch(p.Child("uri"), m.GetUri())
	errs = append(errs, validateStringMatch(p.Child("scheme"), m.GetScheme())...)
	errs = append(errs, validateStringMatch(p.Child("method"), m.GetMethod())...)
	errs = append(errs, validateStringMatch(p.Child("authority"), m.GetAuthority())...)
	for _, group := range []struct {
		name    string
		matches map[string]*networkingapi.StringMatch
	}{{"headers", m.GetHeaders()}, {"withoutHeaders", m.GetWithoutHeaders()}, {"queryParams", m.GetQueryParams()}} {
		for _, k := range slices.Sorted(maps.Keys(group.matches)) {
			at := p.Child(group.name).Key(k)
			if k == "" {
				errs = append(errs, field.Invalid(at, k, "header name cannot be empty"))
			}
			errs = append(errs, validateStringMatch(at, group.matches[k])...)
		}
	}
	if m.GetPort() != 0 {
		errs = append(errs, validatePortNumber(p.Child("port"), m.GetPort())...)
	}
	errs = append(errs, validateLabels(p.Child("sourceLabels"), m.GetSourceLabels())...)
	return append(errs, validateGatewayNames(p.Child("gateways"), m.GetGateways())...)
}

func validateStringMatch(p *field.Path, m *networkingapi.StringMatch) field.ErrorList {
	switch t := m.GetMatchType().(type) {
	case *networkingapi.StringMatch_Prefix:
		if t.Prefix == "" {
			return field.ErrorList{field.Required(p.Child("prefix"), "prefix string match should not be empty; remove the match to match all")}
		}
	case *networkingapi.StringMatch_Regex:
		return validateRegex(p.Child("regex"), t.Regex)
	}
	return nil
}

// maxRegex is Istio's bound on the length of a regular expression.
const maxRegex = 1024

func validateRegex(p *field.Path, re string) field.ErrorList {
	switch {
	case re == "":
		return field.ErrorList{field.Required(p, "regex string match should not be empty; remove the match to match all")}
	case len(re) > maxRegex:
		return field.ErrorList{field.Invalid(p, field.OmitValueType{}, fmt.Sprintf("regex is too large, max length allowed is %d", maxRegex))}
	}
	if _, err := regexp.Compile(re); err != nil {
		return field.ErrorList{field.Invalid(p, re, fmt.Sprintf("%v; write RE2 syntax (https://github.com/google/re2/wiki/Syntax)", err))}
	}
	return nil
}

func validateFault(p *field.Path, f *networkingapi.HTTPFaultInjection) field.ErrorList {
	if f == nil {
		return nil
	}
	if f.Abort == nil && f.Delay == nil {
		return field.ErrorList{field.Required(p, "HTTP fault injection must have an abort and/or a delay")}
	}
	errs := validateShare(p.Child("abort", "percentage"), f.Abort.GetPercentage())
	if a, ok := f.Abort.GetErrorType().(*networkingapi.HTTPFaultInjection_Abort_HttpStatus); ok {
		errs = append(errs, validateStatus(p.Child("abort", "httpStatus"), int64(a.HttpStatus))...)
	}
	errs = append(errs, validateShare(p.Child("delay", "percentage"), f.Delay.GetPercentage())...)
	errs = append(errs, validatePercent(p.Child("delay", "percent"), f.Delay.GetPercent())...) //nolint:staticcheck // deprecated, still accepted
	return append(errs, validateDuration(p.Child("delay", "fixedDelay"), f.Delay.GetFixedDelay())...)
}

func validateStatus(p *field.Path, status int64) field.ErrorList {
	if status < 200 || status > 600 {
		return field.ErrorList{field.Invalid(p, status, fmt.Sprintf("HTTP status %d is not in range 200-599", status))}
	}
	return nil
}

func validateRetries(p *field.Path, r *networkingapi.HTTPRetry) field.ErrorList {
	if r == nil {
		return nil
	}
	errs := validateDuration(p.Child("perTryTimeout"), r.PerTryTimeout)
	switch {
	case r.Attempts < 0:
		errs = append(errs, field.Invalid(p.Child("attempts"), r.Attempts, "attempts cannot be negative"))
	case r.Attempts == 0 && (r.PerTryTimeout != nil || r.RetryOn != "" || r.RetryRemoteLocalities != nil):
		errs = append(errs, field.Required(p.Child("attempts"), "http retry policy configured when attempts are set to 0 (disabled); set attempts, or remove the rest"))
	}
	return errs
}

func validateRedirect(p *field.Path, r *networkingapi.HTTPRedirect) field.ErrorList {
	switch {
	case r == nil:
		return nil
	case r.Uri == "" && r.Authority == "" && r.RedirectPort == nil && r.Scheme == "" && r.PrefixRewrite == "":
		return field.ErrorList{field.Required(p, "redirect must specify URI, authority, scheme, or port")}
	case r.RedirectCode != 0 && (r.RedirectCode < 300 || r.RedirectCode > 399):
		return field.ErrorList{field.Invalid(p.Child("redirectCode"), r.RedirectCode, fmt.Sprintf("%d is not a valid redirect code, must be 3xx", r.RedirectCode))}
	case r.Scheme != "" && r.Scheme != "http" && r.Scheme != "https":
		return field.ErrorList{field.NotSupported(p.Child("scheme"), r.Scheme, []string{"http", "https"})}
	}
	return nil
}

func validateRewrite(p *field.Path, r *networkingapi.HTTPRewrite) field.ErrorList {
	switch {
	case r == nil:
		return nil
	case r.Uri != "" && r.UriRegexRewrite != nil:
		return field.ErrorList{field.Forbidden(p, "rewrite may only contain one of URI or UriRegexRewrite; keep one")}
	case r.Uri == "" && r.UriRegexRewrite == nil && r.Authority == "":
		return field.ErrorList{field.Required(p, "rewrite must specify at least one of URI, UriRegexRewrite, or authority")}
	case r.UriRegexRewrite != nil:
		return validateRegex(p.Child("uriRegexRewrite", "match"), r.UriRegexRewrite.Match)
	}
	return nil
}
