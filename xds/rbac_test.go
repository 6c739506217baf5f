package xds

import (
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"

	"hasp/mesh"
	"hasp/policy/authz"
)

// What an Envoy makes of the filters is what package authz decides, for any
// rules and any caller.
func TestRBACMeansWhatAuthzDecides(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	allowed := 0
	const rounds = 20000
	for range rounds {
		a := mesh.Authorization{Deny: randomRules(r), Allow: randomRules(r)}
		c := authz.Caller{
			Identity:    pick(r, "", "spiffe://corp-a/ns/ns-a/sa/web", "spiffe://b/ns/corp-a/sa/ns-a", "spiffe://b/ns/x/sa/web-a", "spiffe://corp-a/machine/ns-a", "spiffe://a.b/ns/ns-a/sa/a"),
			Source:      netip.MustParseAddr(pick(r, "10.0.0.1", "10.1.2.3", "fd00::1", "fe80::1%1")),
			Destination: netip.MustParseAddrPort(pick(r, "10.0.0.9:80", "10.0.0.9:8080", "[fd00::9]:80")),
		}
		filters, err := rbac(a)
		if err != nil {
			t.Fatal(err)
		}
		got, want := envoyAllows(t, filters, c), authz.Decide(a, c)
		if got != want.Allowed {
			t.Fatalf("%+v\n%+v\nEnvoy lets the caller in: %v; authz: %+v", a, c, got, want)
		}
		if got {
			allowed++
		}
	}
	if allowed < rounds/10 || allowed > rounds*9/10 {
		t.Errorf("%d of %d callers were let in: the rules say too little", allowed, rounds)
	}
}

func pick(r *rand.Rand, from ...string) string { return from[r.IntN(len(from))] }

// some is a list of at most two, mostly empty.
func some[T any](r *rand.Rand, one func() T) []T {
	var out []T
	for r.IntN(4) == 0 && len(out) < 2 {
		out = append(out, one())
	}
	return out
}

func randomRules(r *rand.Rand) []mesh.AuthorizationRules {
	var out []mesh.AuthorizationRules
	for i := range r.IntN(3) {
		p := mesh.AuthorizationRules{Origin: mesh.Origin{Kind: "AuthorizationPolicy", Namespace: "x", Name: string(rune('a' + i))}}
		for range r.IntN(3) {
			p.Rules = append(p.Rules, mesh.AuthorizationRule{
				From: some(r, func() mesh.AuthorizationSource { return randomSource(r) }),
				To: some(r, func() mesh.AuthorizationTarget {
					port := func() uint16 { return []uint16{80, 8080}[r.IntN(2)] }
					return mesh.AuthorizationTarget{Ports: some(r, port), NotPorts: some(r, port)}
				}),
				When: some(r, func() mesh.AuthorizationCondition { return randomCondition(r) }),
			})
		}
		out = append(out, p)
	}
	return out
}

var (
	randomNames  = []string{"*", "corp-a", "*-a", "corp*", "ns-a", "ns*", "*web", "b", "x", "*a"}
	randomIDs    = []string{"*", "corp-a/ns/ns-a/sa/web", "corp-a/*", "*/sa/web", "*-a", "b*", "a.b/ns/ns-a/sa/a"}
	randomSAs    = []string{"ns-a/web", "corp-a/ns-a", "x/*", "*/web", "*-a", "ns*", "*", "web"}
	randomBlocks = []string{"10.0.0.0/24", "10.1.2.3", "fd00::/8", "fe80::/10", "::/0", "::ffff:10.0.0.0/104"}
)

func randomSource(r *rand.Rand) mesh.AuthorizationSource {
	of := func(list []string) []string { return some(r, func() string { return pick(r, list...) }) }
	ranges := func() []netip.Prefix {
		return each(of(randomBlocks), func(s string) netip.Prefix { p, _ := authz.ParseBlock(s); return p })
	}
	return mesh.AuthorizationSource{
		Principals: of(randomIDs), NotPrincipals: of(randomIDs), Namespaces: of(randomNames), NotNamespaces: of(randomNames),
		ServiceAccounts: of(randomSAs), NotServiceAccounts: of(randomSAs), TrustDomains: of(randomNames), NotTrustDomains: of(randomNames),
		IPBlocks: ranges(), NotIPBlocks: ranges(),
	}
}

func randomCondition(r *rand.Rand) mesh.AuthorizationCondition {
	words := map[mesh.AuthorizationKey][]string{
		mesh.KeySourcePrincipal: randomIDs, mesh.KeySourceNamespace: randomNames, mesh.KeySourceTrustDomain: randomNames,
		mesh.KeySourceServiceAccount: randomSAs, mesh.KeySourceIP: randomBlocks, mesh.KeyDestinationIP: randomBlocks,
		mesh.KeyDestinationPort: {"80", "8080"},
	}
	keys := make([]mesh.AuthorizationKey, 0, len(words))
	for k := range words {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	key := keys[r.IntN(len(keys))]
	one := func() string { return pick(r, words[key]...) }
	return mesh.AuthorizationCondition{Key: key, Values: some(r, one), NotValues: some(r, one)}
}

// envoyAllows follows Envoy's documentation of the network RBAC filter: the
// policies of one filter are alternatives, and each filter may refuse.
func envoyAllows(t *testing.T, filters []*listenerv3.Filter, c authz.Caller) bool {
	t.Helper()
	for _, f := range filters {
		var body rbacfilterv3.RBAC
		if err := f.GetTypedConfig().UnmarshalTo(&body); err != nil {
			t.Fatal(err)
		}
		matched := false
		for _, p := range body.Rules.Policies {
			matched = matched || slices.ContainsFunc(p.Permissions, func(x *rbacv3.Permission) bool { return permits(t, x, c) }) &&
				slices.ContainsFunc(p.Principals, func(x *rbacv3.Principal) bool { return isPrincipal(t, x, c) })
		}
		if matched != (body.Rules.Action == rbacv3.RBAC_ALLOW) {
			return false
		}
	}
	return true
}

func permits(t *testing.T, p *rbacv3.Permission, c authz.Caller) bool {
	sub := func(x *rbacv3.Permission) bool { return permits(t, x, c) }
	switch r := p.Rule.(type) {
	case *rbacv3.Permission_Any:
		return r.Any
	case *rbacv3.Permission_AndRules:
		return !slices.ContainsFunc(r.AndRules.Rules, func(x *rbacv3.Permission) bool { return !sub(x) })
	case *rbacv3.Permission_OrRules:
		return slices.ContainsFunc(r.OrRules.Rules, sub)
	case *rbacv3.Permission_NotRule:
		return !sub(r.NotRule)
	case *rbacv3.Permission_DestinationPort:
		return r.DestinationPort == uint32(c.Destination.Port())
	case *rbacv3.Permission_DestinationIp:
		return inRange(r.DestinationIp, c.Destination.Addr())
	}
	t.Fatalf("permission %v", p)
	return false
}

func isPrincipal(t *testing.T, p *rbacv3.Principal, c authz.Caller) bool {
	sub := func(x *rbacv3.Principal) bool { return isPrincipal(t, x, c) }
	switch r := p.Identifier.(type) {
	case *rbacv3.Principal_Any:
		return r.Any
	case *rbacv3.Principal_AndIds:
		return !slices.ContainsFunc(r.AndIds.Ids, func(x *rbacv3.Principal) bool { return !sub(x) })
	case *rbacv3.Principal_OrIds:
		return slices.ContainsFunc(r.OrIds.Ids, sub)
	case *rbacv3.Principal_NotId:
		return !sub(r.NotId)
	case *rbacv3.Principal_DirectRemoteIp:
		return inRange(r.DirectRemoteIp, c.Source)
	case *rbacv3.Principal_Authenticated_: // the whole of the name, never of nobody
		whole := regexp.MustCompile("^(?:" + r.Authenticated.PrincipalName.GetSafeRegex().Regex + ")$")
		return c.Identity != "" && whole.MatchString(c.Identity)
	}
	t.Fatalf("principal %v", p)
	return false
}

func inRange(r *corev3.CidrRange, a netip.Addr) bool {
	return netip.PrefixFrom(netip.MustParseAddr(r.AddressPrefix), int(r.PrefixLen.Value)).Contains(a.WithZone(""))
}
