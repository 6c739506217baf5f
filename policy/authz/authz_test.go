package authz_test

import (
	"net/netip"
	"testing"

	"hasp/mesh"
	"hasp/policy/authz"
)

var (
	web   = authz.Caller{Identity: "spiffe://cluster.local/ns/shop/sa/web", Source: netip.MustParseAddr("10.0.0.1"), Destination: netip.MustParseAddrPort("10.0.0.2:8080")}
	rogue = authz.Caller{Source: netip.MustParseAddr("::ffff:10.0.0.9"), Destination: netip.MustParseAddrPort("10.0.0.2:8080")}
)

func rules(name string, r ...mesh.AuthorizationRule) []mesh.AuthorizationRules {
	return []mesh.AuthorizationRules{{Origin: mesh.Origin{Kind: "AuthorizationPolicy", Namespace: "shop", Name: name}, Rules: r}}
}

func from(s ...mesh.AuthorizationSource) mesh.AuthorizationRule {
	return mesh.AuthorizationRule{From: s}
}

func when(key mesh.AuthorizationKey, values ...string) mesh.AuthorizationRule {
	return mesh.AuthorizationRule{When: []mesh.AuthorizationCondition{{Key: key, Values: values}}}
}

func TestRule(t *testing.T) {
	type source = mesh.AuthorizationSource
	blocks := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	for name, c := range map[string]struct {
		rule       mesh.AuthorizationRule
		web, rogue bool
	}{
		"empty":                     {mesh.AuthorizationRule{}, true, true},
		"principal":                 {from(source{Principals: []string{"cluster.local/ns/shop/sa/web"}}), true, false},
		"principal of another":      {from(source{Principals: []string{"cluster.local/ns/shop/sa/we"}}), false, false},
		"principal prefix":          {from(source{Principals: []string{"cluster.local/ns/shop/*"}}), true, false},
		"principal suffix":          {from(source{Principals: []string{"*/sa/web"}}), true, false},
		"any principal":             {from(source{Principals: []string{"*"}}), true, false},
		"no principal":              {from(source{NotPrincipals: []string{"*"}}), false, true},
		"namespace":                 {from(source{Namespaces: []string{"bank", "shop"}}), true, false},
		"namespace prefix":          {from(source{Namespaces: []string{"sh*"}}), true, false},
		"not the namespace":         {from(source{NotNamespaces: []string{"shop"}}), false, true},
		"account":                   {from(source{ServiceAccounts: []string{"shop/web"}}), true, false},
		"account of elsewhere":      {from(source{ServiceAccounts: []string{"bank/web"}}), false, false},
		"trust domain":              {from(source{TrustDomains: []string{"cluster.local"}}), true, false},
		"range":                     {from(source{IPBlocks: blocks("10.0.0.8/29")}), false, true},
		"not the range":             {from(source{NotIPBlocks: blocks("10.0.0.8/29")}), true, false},
		"two fields of one source":  {from(source{Namespaces: []string{"shop"}, IPBlocks: blocks("10.0.0.8/29")}), false, false},
		"two sources":               {from(source{Namespaces: []string{"bank"}}, source{IPBlocks: blocks("10.0.0.0/24")}), true, true},
		"port":                      {mesh.AuthorizationRule{To: []mesh.AuthorizationTarget{{Ports: []uint16{8080}}}}, true, true},
		"another port":              {mesh.AuthorizationRule{To: []mesh.AuthorizationTarget{{Ports: []uint16{81}}}}, false, false},
		"all but the port":          {mesh.AuthorizationRule{To: []mesh.AuthorizationTarget{{NotPorts: []uint16{8080}}}}, false, false},
		"when source.principal":     {when(mesh.KeySourcePrincipal, "*web"), true, false},
		"when source.namespace":     {when(mesh.KeySourceNamespace, "shop"), true, false},
		"when source.account":       {when(mesh.KeySourceServiceAccount, "shop/*"), true, false},
		"when source.trustDomain":   {when(mesh.KeySourceTrustDomain, "other.local"), false, false},
		"when source.ip":            {when(mesh.KeySourceIP, "10.0.0.9"), false, true},
		"when destination.ip":       {when(mesh.KeyDestinationIP, "10.0.0.0/30"), true, true},
		"when destination.port":     {when(mesh.KeyDestinationPort, "8080"), true, true},
		"when destination.port not": {mesh.AuthorizationRule{When: []mesh.AuthorizationCondition{{Key: mesh.KeyDestinationPort, NotValues: []string{"8080"}}}}, false, false},
		"a key of a newer version":  {when("source.moon", "full"), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := mesh.Authorization{Allow: rules("some", c.rule)}
			if got := authz.Decide(a, web).Allowed; got != c.web {
				t.Errorf("web: %v", got)
			}
			if got := authz.Decide(a, rogue).Allowed; got != c.rogue {
				t.Errorf("without identity: %v", got)
			}
		})
	}
}

func TestDecide(t *testing.T) {
	all, webOnly := mesh.AuthorizationRule{}, when(mesh.KeySourceServiceAccount, "shop/web")
	for name, c := range map[string]struct {
		a    mesh.Authorization
		ok   bool
		want string
	}{
		"nothing applies":  {mesh.Authorization{}, true, ""},
		"deny wins":        {mesh.Authorization{Deny: rules("no", webOnly), Allow: rules("yes", all)}, false, "AuthorizationPolicy shop/no denies spiffe://cluster.local/ns/shop/sa/web"},
		"deny of others":   {mesh.Authorization{Deny: rules("no", when(mesh.KeySourceNamespace, "bank"))}, true, ""},
		"allowed":          {mesh.Authorization{Allow: rules("yes", webOnly)}, true, "AuthorizationPolicy shop/yes allows spiffe://cluster.local/ns/shop/sa/web"},
		"allow nothing":    {mesh.Authorization{Allow: rules("none")}, false, "AuthorizationPolicy shop/none does not allow spiffe://cluster.local/ns/shop/sa/web"},
		"one of two":       {mesh.Authorization{Allow: append(rules("none"), rules("yes", webOnly)...)}, true, "AuthorizationPolicy shop/yes allows spiffe://cluster.local/ns/shop/sa/web"},
		"neither of two":   {mesh.Authorization{Allow: append(rules("a"), rules("b")...)}, false, "AuthorizationPolicy shop/a and 1 more do not allow spiffe://cluster.local/ns/shop/sa/web"},
		"deny has no rule": {mesh.Authorization{Deny: rules("no")}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := authz.Decide(c.a, web); got.Allowed != c.ok || got.Why != c.want {
				t.Errorf("got %+v, want %v, %q", got, c.ok, c.want)
			}
		})
	}
	got := authz.Decide(mesh.Authorization{Allow: rules("yes", webOnly)}, rogue)
	if want := "AuthorizationPolicy shop/yes does not allow 10.0.0.9, which proved no identity"; got.Why != want {
		t.Errorf("got %q, want %q", got.Why, want)
	}
}

// An address is in a range however it is written: a link-local one with the
// interface it came by, one of IPv4 mapped into IPv6.
func TestRangeOfAnAddressInAnotherForm(t *testing.T) {
	for _, c := range []struct{ block, address string }{
		{"::/0", "fe80::1%eth0"}, {"fe80::/10", "fe80::1%eth0"}, {"fe80::1", "fe80::1%2"},
		{"::ffff:10.0.0.0/104", "10.1.2.3"}, {"10.0.0.0/8", "::ffff:10.1.2.3"}, {"::ffff:10.1.2.3", "10.1.2.3"},
	} {
		p, err := authz.ParseBlock(c.block)
		if err != nil {
			t.Fatal(err)
		}
		caller := authz.Caller{Source: netip.MustParseAddr(c.address)}
		for name, rule := range map[string]mesh.AuthorizationRule{
			"ipBlocks":  from(mesh.AuthorizationSource{IPBlocks: []netip.Prefix{p}}),
			"source.ip": when(mesh.KeySourceIP, c.block),
		} {
			if authz.Decide(mesh.Authorization{Deny: rules("no", rule)}, caller).Allowed {
				t.Errorf("%s %s does not deny %s", name, c.block, c.address)
			}
		}
	}
}
