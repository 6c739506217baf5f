// Package authz answers whether a caller may talk to a workload, from the
// workload's [mesh.Authorization] and the facts of a connection. It is pure and
// imports nouns only, so that the sidecar links it: the proxy that refuses a
// connection and the command that explains the refusal ask the same [Decide].
package authz

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"hasp/mesh"
)

// Caller is what is known of a connection.
type Caller struct {
	// Identity is the SPIFFE ID that mutual TLS proved; empty when it proved
	// none. Nothing but a proved identity matches a principal, a namespace, a
	// service account or a trust domain.
	Identity    string
	Source      netip.Addr
	Destination netip.AddrPort // of the workload, as the caller dialled it
}

// Verdict is the answer. Origin is the object that decided, zero when none did.
type Verdict struct {
	Allowed bool
	Origin  mesh.Origin
	Why     string // a sentence without a full stop; empty when no object applies
}

// Decide goes by Istio's order: one DENY that matches refuses; where no ALLOW
// applies everything else is allowed; otherwise one ALLOW must match.
func Decide(a mesh.Authorization, c Caller) Verdict {
	who := newSubject(c)
	for _, d := range a.Deny {
		if who.matchesAny(d.Rules) {
			return Verdict{Origin: d.Origin, Why: d.Origin.String() + " denies " + who.name()}
		}
	}
	if len(a.Allow) == 0 {
		return Verdict{Allowed: true}
	}
	for _, p := range a.Allow {
		if who.matchesAny(p.Rules) {
			return Verdict{Allowed: true, Origin: p.Origin, Why: p.Origin.String() + " allows " + who.name()}
		}
	}
	o := a.Allow[0].Origin
	why := o.String() + " does not allow " + who.name()
	if n := len(a.Allow) - 1; n > 0 {
		why = o.String() + " and " + strconv.Itoa(n) + " more do not allow " + who.name()
	}
	return Verdict{Origin: o, Why: why}
}

// subject is a caller with its identity taken apart.
type subject struct {
	Caller
	principal, trustDomain, namespace, account string
}

func newSubject(c Caller) subject {
	s := subject{Caller: c}
	// A link-local address has a zone, and no range contains one with a zone.
	s.Source = s.Source.Unmap().WithZone("")
	s.Destination = netip.AddrPortFrom(c.Destination.Addr().Unmap().WithZone(""), c.Destination.Port())
	principal, ok := strings.CutPrefix(c.Identity, "spiffe://")
	if !ok {
		return s
	}
	s.principal = principal
	parts := strings.Split(principal, "/")
	s.trustDomain = parts[0]
	// The form of Kubernetes identities; one that is not has a principal only.
	if len(parts) == 5 && parts[1] == "ns" && parts[3] == "sa" {
		s.namespace, s.account = parts[2], parts[2]+"/"+parts[4]
	}
	return s
}

// name is the caller in a sentence.
func (s subject) name() string {
	if s.Identity != "" {
		return s.Identity
	}
	if s.Source.IsValid() {
		return s.Source.String() + ", which proved no identity"
	}
	return "a caller that proved no identity"
}

func (s subject) matchesAny(rules []mesh.AuthorizationRule) bool {
	return slices.ContainsFunc(rules, s.matches)
}

func (s subject) matches(r mesh.AuthorizationRule) bool {
	return (len(r.From) == 0 || slices.ContainsFunc(r.From, s.from)) &&
		(len(r.To) == 0 || slices.ContainsFunc(r.To, s.to)) &&
		!slices.ContainsFunc(r.When, func(c mesh.AuthorizationCondition) bool { return !s.when(c) })
}

func (s subject) from(f mesh.AuthorizationSource) bool {
	return words(s.principal, f.Principals, f.NotPrincipals) &&
		words(s.namespace, f.Namespaces, f.NotNamespaces) &&
		words(s.account, f.ServiceAccounts, f.NotServiceAccounts) &&
		words(s.trustDomain, f.TrustDomains, f.NotTrustDomains) &&
		blocks(s.Source, f.IPBlocks, f.NotIPBlocks)
}

func (s subject) to(t mesh.AuthorizationTarget) bool {
	port := s.Destination.Port()
	return (len(t.Ports) == 0 || slices.Contains(t.Ports, port)) && !slices.Contains(t.NotPorts, port)
}

func (s subject) when(c mesh.AuthorizationCondition) bool {
	switch c.Key {
	case mesh.KeySourcePrincipal:
		return words(s.principal, c.Values, c.NotValues)
	case mesh.KeySourceNamespace:
		return words(s.namespace, c.Values, c.NotValues)
	case mesh.KeySourceServiceAccount:
		return words(s.account, c.Values, c.NotValues)
	case mesh.KeySourceTrustDomain:
		return words(s.trustDomain, c.Values, c.NotValues)
	case mesh.KeySourceIP:
		return addresses(s.Source, c)
	case mesh.KeyDestinationIP:
		return addresses(s.Destination.Addr(), c)
	case mesh.KeyDestinationPort:
		port := strconv.Itoa(int(s.Destination.Port()))
		return (len(c.Values) == 0 || slices.Contains(c.Values, port)) && !slices.Contains(c.NotValues, port)
	}
	return false
}

// words: one of the patterns matches, if there are any, and none of the others.
func words(value string, any, none []string) bool {
	return (len(any) == 0 || slices.ContainsFunc(any, func(p string) bool { return word(value, p) })) &&
		!slices.ContainsFunc(none, func(p string) bool { return word(value, p) })
}

// word compares with one of Istio's patterns: exact, "*" for anything that is
// there, "abc*" and "*abc".
func word(value, pattern string) bool {
	switch {
	case value == "":
		return false
	case pattern == "*":
		return true
	case strings.HasSuffix(pattern, "*"):
		return strings.HasPrefix(value, strings.TrimSuffix(pattern, "*"))
	case strings.HasPrefix(pattern, "*"):
		return strings.HasSuffix(value, strings.TrimPrefix(pattern, "*"))
	}
	return value == pattern
}

func blocks(a netip.Addr, any, none []netip.Prefix) bool {
	in := func(p netip.Prefix) bool { return p.Contains(a) }
	return (len(any) == 0 || slices.ContainsFunc(any, in)) && !slices.ContainsFunc(none, in)
}

// addresses is a condition on an address. Package policy has checked that the
// values are addresses or ranges; one that is not matches nothing.
func addresses(a netip.Addr, c mesh.AuthorizationCondition) bool {
	in := func(s string) bool {
		p, err := ParseBlock(s)
		return err == nil && p.Contains(a)
	}
	return (len(c.Values) == 0 || slices.ContainsFunc(c.Values, in)) && !slices.ContainsFunc(c.NotValues, in)
}

// ParseBlock reads an address, or a range in CIDR form, as Istio's ipBlocks
// write them. One that is mapped into IPv6 is that of IPv4, as addresses are.
func ParseBlock(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// Ports and Blocks read the lists of an object. A value that does not parse,
// which the API server refuses, becomes one that matches nothing: it must not
// widen a list by leaving it.
func Ports(list []string) []uint16 {
	var out []uint16
	for _, s := range list {
		n, _ := strconv.ParseUint(s, 10, 16)
		out = append(out, uint16(n))
	}
	return out
}

// Blocks is to addresses and ranges what Ports is to ports.
func Blocks(list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		p, _ := ParseBlock(s)
		out = append(out, p)
	}
	return out
}
