package xds

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"hasp/mesh"
	"hasp/policy/authz"
)

const rbacFilter = "envoy.filters.network.rbac"

// listenerMeta is our part of the inbound listener's metadata: what its RBAC
// filters say, in our words and with the objects that said it.
type listenerMeta struct {
	Authorization mesh.Authorization `json:"authorization,omitzero"`
}

// rbac makes the filters that stand before tcp_proxy in every inbound chain, as
// Istio's do: first who is denied, then who is allowed.
func rbac(a mesh.Authorization) ([]*listenerv3.Filter, error) {
	var out []*listenerv3.Filter
	for _, f := range []struct {
		action rbacv3.RBAC_Action
		list   []mesh.AuthorizationRules
	}{{rbacv3.RBAC_DENY, a.Deny}, {rbacv3.RBAC_ALLOW, a.Allow}} {
		if len(f.list) == 0 {
			continue
		}
		policies := map[string]*rbacv3.Policy{}
		for _, rules := range f.list {
			for i, r := range rules.Rules {
				p, err := rbacPolicy(r)
				if err != nil {
					return nil, fmt.Errorf("%s: rule %d: %w", rules.Origin, i, err)
				}
				name := fmt.Sprintf("ns[%s]-policy[%s]-rule[%d]", rules.Origin.Namespace, rules.Origin.Name, i)
				policies[name] = p
			}
		}
		body, err := pack(&rbacfilterv3.RBAC{StatPrefix: "tcp.", Rules: &rbacv3.RBAC{Action: f.action, Policies: policies}})
		if err != nil {
			return nil, err
		}
		out = append(out, &listenerv3.Filter{Name: rbacFilter, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: body}})
	}
	return out, nil
}

func rbacPolicy(r mesh.AuthorizationRule) (*rbacv3.Policy, error) {
	var to, whenTo []*rbacv3.Permission
	for _, t := range r.To {
		to = append(to, allOf(permissions(t.Ports, t.NotPorts)...))
	}
	if len(to) > 0 {
		whenTo = append(whenTo, anyPermission(to...))
	}
	var from, whenFrom []*rbacv3.Principal
	for _, s := range r.From {
		from = append(from, everyone(sourcePrincipals(s)...))
	}
	if len(from) > 0 {
		whenFrom = append(whenFrom, someone(from...))
	}
	for _, c := range r.When {
		switch c.Key {
		case mesh.KeyDestinationPort:
			whenTo = append(whenTo, permissions(authz.Ports(c.Values), authz.Ports(c.NotValues))...)
		case mesh.KeyDestinationIP:
			whenTo = append(whenTo, destinations(authz.Blocks(c.Values), authz.Blocks(c.NotValues))...)
		case mesh.KeySourceIP:
			whenFrom = append(whenFrom, sources(authz.Blocks(c.Values), authz.Blocks(c.NotValues))...)
		default:
			pattern, ok := identityPatterns[c.Key]
			if !ok {
				return nil, fmt.Errorf("key %q is not supported", c.Key)
			}
			whenFrom = append(whenFrom, proved(pattern, c.Values, c.NotValues)...)
		}
	}
	return &rbacv3.Policy{Permissions: []*rbacv3.Permission{allOf(whenTo...)}, Principals: []*rbacv3.Principal{everyone(whenFrom...)}}, nil
}

func sourcePrincipals(s mesh.AuthorizationSource) []*rbacv3.Principal {
	return slices.Concat(
		proved(identityPatterns[mesh.KeySourcePrincipal], s.Principals, s.NotPrincipals),
		proved(identityPatterns[mesh.KeySourceNamespace], s.Namespaces, s.NotNamespaces),
		proved(identityPatterns[mesh.KeySourceServiceAccount], s.ServiceAccounts, s.NotServiceAccounts),
		proved(identityPatterns[mesh.KeySourceTrustDomain], s.TrustDomains, s.NotTrustDomains),
		sources(s.IPBlocks, s.NotIPBlocks),
	)
}

// identityPatterns make a regular expression (RE2) for the whole SPIFFE ID out
// of one of Istio's patterns for the part that a key is about. Of a pattern for a
// part nothing may match across a slash: "*-test" of a trust domain is no
// namespace's end.
var identityPatterns = map[mesh.AuthorizationKey]func(string) string{
	mesh.KeySourcePrincipal:      func(p string) string { return "spiffe://" + expression(p, ".") },
	mesh.KeySourceNamespace:      func(p string) string { return accountID(part(p), part("*")) },
	mesh.KeySourceTrustDomain:    func(p string) string { return "spiffe://" + part(p) + "(/.*)?" },
	mesh.KeySourceServiceAccount: serviceAccount,
}

// serviceAccount is for NAMESPACE/NAME.
func serviceAccount(p string) string {
	namespace, name, ok := strings.Cut(p, "/")
	switch {
	case ok:
	case strings.HasSuffix(p, "*") && p != "*": // a namespace's beginning
		name = "*"
	case strings.HasPrefix(p, "*"): // a name's end
		namespace, name = "*", p
	}
	return accountID(part(namespace), part(name))
}

func accountID(namespace, name string) string {
	return "spiffe://[^/]+/ns/" + namespace + "/sa/" + name
}

// proved matches what a certificate proved. A pattern begins or ends with
// "*", or is one.
func proved(whole func(string) string, any, none []string) []*rbacv3.Principal {
	one := func(pattern string) *rbacv3.Principal {
		return &rbacv3.Principal{Identifier: &rbacv3.Principal_Authenticated_{Authenticated: &rbacv3.Principal_Authenticated{
			PrincipalName: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
				SafeRegex: &matcherv3.RegexMatcher{Regex: whole(pattern)},
			}},
		}}}
	}
	var out []*rbacv3.Principal
	if len(any) > 0 {
		out = append(out, someone(each(any, one)...))
	}
	if len(none) > 0 {
		out = append(out, &rbacv3.Principal{Identifier: &rbacv3.Principal_NotId{NotId: someone(each(none, one)...)}})
	}
	return out
}

func sources(any, none []netip.Prefix) []*rbacv3.Principal {
	one := func(p netip.Prefix) *rbacv3.Principal {
		return &rbacv3.Principal{Identifier: &rbacv3.Principal_DirectRemoteIp{DirectRemoteIp: cidr(p)}}
	}
	var out []*rbacv3.Principal
	if len(any) > 0 {
		out = append(out, someone(each(any, one)...))
	}
	if len(none) > 0 {
		out = append(out, &rbacv3.Principal{Identifier: &rbacv3.Principal_NotId{NotId: someone(each(none, one)...)}})
	}
	return out
}

func permissions(any, none []uint16) []*rbacv3.Permission {
	one := func(port uint16) *rbacv3.Permission {
		return &rbacv3.Permission{Rule: &rbacv3.Permission_DestinationPort{DestinationPort: uint32(port)}}
	}
	return permitted(each(any, one), each(none, one))
}

func destinations(any, none []netip.Prefix) []*rbacv3.Permission {
	one := func(p netip.Prefix) *rbacv3.Permission {
		return &rbacv3.Permission{Rule: &rbacv3.Permission_DestinationIp{DestinationIp: cidr(p)}}
	}
	return permitted(each(any, one), each(none, one))
}

func permitted(any, none []*rbacv3.Permission) []*rbacv3.Permission {
	var out []*rbacv3.Permission
	if len(any) > 0 {
		out = append(out, anyPermission(any...))
	}
	if len(none) > 0 {
		out = append(out, &rbacv3.Permission{Rule: &rbacv3.Permission_NotRule{NotRule: anyPermission(none...)}})
	}
	return out
}

func anyPermission(list ...*rbacv3.Permission) *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_OrRules{OrRules: &rbacv3.Permission_Set{Rules: list}}}
}

// allOf and everyone are conjunctions, of nothing: true.
func allOf(list ...*rbacv3.Permission) *rbacv3.Permission {
	if len(list) == 0 {
		return &rbacv3.Permission{Rule: &rbacv3.Permission_Any{Any: true}}
	}
	return &rbacv3.Permission{Rule: &rbacv3.Permission_AndRules{AndRules: &rbacv3.Permission_Set{Rules: list}}}
}

func everyone(list ...*rbacv3.Principal) *rbacv3.Principal {
	if len(list) == 0 {
		return &rbacv3.Principal{Identifier: &rbacv3.Principal_Any{Any: true}}
	}
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_AndIds{AndIds: &rbacv3.Principal_Set{Ids: list}}}
}

func someone(list ...*rbacv3.Principal) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_OrIds{OrIds: &rbacv3.Principal_Set{Ids: list}}}
}

// expression is a pattern of Istio's as a regular expression; char is what "*"
// stands for any number of.
func expression(pattern, char string) string {
	switch {
	case pattern == "*":
		return char + "+"
	case strings.HasSuffix(pattern, "*"):
		return regexp.QuoteMeta(strings.TrimSuffix(pattern, "*")) + char + "*"
	case strings.HasPrefix(pattern, "*"):
		return char + "*" + regexp.QuoteMeta(strings.TrimPrefix(pattern, "*"))
	}
	return regexp.QuoteMeta(pattern)
}

// part is a pattern for one part of an identity.
func part(pattern string) string { return expression(pattern, "[^/]") }

func cidr(p netip.Prefix) *corev3.CidrRange {
	return &corev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(max(p.Bits(), 0)))}
}

func each[A, B any](list []A, f func(A) B) []B {
	var out []B
	for _, a := range list {
		out = append(out, f(a))
	}
	return out
}

// readRBAC takes what stands before a chain's tcp_proxy: it must be what the
// listener's metadata says, no more and no less.
func readRBAC(filters []*listenerv3.Filter, a mesh.Authorization) (rest []*listenerv3.Filter, err error) {
	want, err := rbac(a)
	if err != nil {
		return nil, fmt.Errorf("metadata hasp: authorization: %w", err)
	}
	if len(filters) < len(want) {
		return nil, fmt.Errorf("filters: %d of %s are missing", len(want)-len(filters), rbacFilter)
	}
	for i, f := range want {
		if !proto.Equal(f, filters[i]) {
			return nil, fmt.Errorf("filters[%d]: is not the %s that the listener's metadata describes", i, rbacFilter)
		}
	}
	return filters[len(want):], nil
}
