package policy

import (
	"strings"

	securityapi "istio.io/api/security/v1beta1"
	security "istio.io/client-go/pkg/apis/security/v1"

	"hasp/api"
	"hasp/mesh"
	"hasp/policy/authz"
	"hasp/world"
)

// Authorization collects the AuthorizationPolicy objects that apply to a
// workload: those of its namespace and of the root namespace, without a
// selector or with one that picks it (in the root namespace too, as in Istio).
// A dry run and AUDIT decide nothing.
//
// hasp judges connections, not requests. A rule that asks about requests
// (paths, methods, hosts, request principals, headers) is read as Istio reads
// it on a TCP port: in an ALLOW it never matches, in a DENY it matches as if
// the field were absent. So neither lets anybody in who should be out.
func Authorization(w *world.World, wl *mesh.Workload) mesh.Authorization {
	var a mesh.Authorization
	root := w.Mesh.RootNamespace
	applies := func(p *security.AuthorizationPolicy) bool {
		return (p.Namespace == root || p.Namespace == wl.Namespace) && subsetOf(p.Spec.GetSelector().GetMatchLabels(), wl.Labels) &&
			!api.TargetsElsewhere(&p.Spec) && !api.DryRun(p.Annotations)
	}
	for _, p := range oldestFirst(w.AuthorizationPolicies, applies) {
		out := mesh.AuthorizationRules{Origin: authorizationOrigin(p, root)}
		deny := p.Spec.GetAction() == securityapi.AuthorizationPolicy_DENY
		for _, r := range p.Spec.GetRules() {
			if rule, ok := authorizationRule(r, deny, writer{namespace: p.Namespace, trustDomain: w.Mesh.TrustDomain}); ok {
				out.Rules = append(out.Rules, rule)
			}
		}
		switch p.Spec.GetAction() {
		case securityapi.AuthorizationPolicy_DENY:
			a.Deny = append(a.Deny, out)
		case securityapi.AuthorizationPolicy_ALLOW:
			a.Allow = append(a.Allow, out)
		}
	}
	return a
}

func authorizationOrigin(p *security.AuthorizationPolicy, root string) mesh.Origin {
	o := mesh.Origin{Kind: "AuthorizationPolicy", Namespace: p.Namespace, Name: p.Name, Level: mesh.LevelNamespace}
	switch {
	case len(p.Spec.GetSelector().GetMatchLabels()) > 0:
		o.Level = mesh.LevelWorkload
	case p.Namespace == root:
		o.Level = mesh.LevelMesh
	}
	return o
}

// authorizationRule is false for a rule that cannot match a connection.
func authorizationRule(r *securityapi.Rule, deny bool, by writer) (out mesh.AuthorizationRule, ok bool) {
	for _, f := range r.GetFrom() {
		if s := f.GetSource(); deny || !api.AboutRequestsSource(s) {
			out.From = append(out.From, authorizationSource(s, by))
		}
	}
	for _, t := range r.GetTo() {
		if o := t.GetOperation(); deny || !api.AboutRequestsOperation(o) {
			out.To = append(out.To, mesh.AuthorizationTarget{Ports: authz.Ports(o.GetPorts()), NotPorts: authz.Ports(o.GetNotPorts())})
		}
	}
	if len(r.GetFrom()) > 0 && len(out.From) == 0 || len(r.GetTo()) > 0 && len(out.To) == 0 {
		return out, false
	}
	for _, c := range r.GetWhen() {
		switch {
		case !api.AboutRequestsKey(c.GetKey()):
			out.When = append(out.When, authorizationCondition(c, by))
		case !deny:
			return out, false
		}
	}
	return out, true
}

// writer is where an object was written: it fills in what its words leave open.
type writer struct{ namespace, trustDomain string }

func authorizationSource(s *securityapi.Source, by writer) mesh.AuthorizationSource {
	return mesh.AuthorizationSource{
		Principals: by.principals(s.GetPrincipals()), NotPrincipals: by.principals(s.GetNotPrincipals()),
		Namespaces: s.GetNamespaces(), NotNamespaces: s.GetNotNamespaces(),
		ServiceAccounts:    by.accounts(s.GetServiceAccounts()),
		NotServiceAccounts: by.accounts(s.GetNotServiceAccounts()),
		TrustDomains:       s.GetTrustDomains(), NotTrustDomains: s.GetNotTrustDomains(),
		IPBlocks: authz.Blocks(s.GetIpBlocks()), NotIPBlocks: authz.Blocks(s.GetNotIpBlocks()),
	}
}

func authorizationCondition(c *securityapi.Condition, by writer) mesh.AuthorizationCondition {
	out := mesh.AuthorizationCondition{Key: mesh.AuthorizationKey(c.GetKey()), Values: c.GetValues(), NotValues: c.GetNotValues()}
	switch out.Key {
	case mesh.KeySourcePrincipal:
		out.Values, out.NotValues = by.principals(out.Values), by.principals(out.NotValues)
	case mesh.KeySourceServiceAccount:
		out.Values, out.NotValues = by.accounts(out.Values), by.accounts(out.NotValues)
	}
	return out
}

// principals: cluster.local stands for the mesh's own trust domain, whatever
// that is called, as in Istio: the objects of its documentation say it.
func (by writer) principals(list []string) []string {
	var out []string
	for _, s := range list {
		if rest, ok := strings.CutPrefix(s, "cluster.local/"); ok {
			s = by.trustDomain + "/" + rest
		}
		out = append(out, s)
	}
	return out
}

// accounts: one without a namespace is of the object's.
func (by writer) accounts(list []string) []string {
	var out []string
	for _, s := range list {
		if !strings.Contains(s, "/") {
			s = by.namespace + "/" + s
		}
		out = append(out, s)
	}
	return out
}
