package policy

import (
	"cmp"
	"maps"
	"slices"

	networking "istio.io/client-go/pkg/apis/networking/v1"

	"hasp/mesh"
	"hasp/world"
)

// candidate is a DestinationRule whose host covers the service.
type candidate struct {
	rule *networking.DestinationRule
	host string // written out
	step int    // which step of the lookup finds it: 0, 1 or 2
}

func (c candidate) selector() map[string]string {
	return c.rule.Spec.GetWorkloadSelector().GetMatchLabels()
}

// origin names the rule. Its level is what it was written for: the workloads it
// selects, one host, or the namespace or mesh of a wildcard.
func (c candidate) origin(root string) mesh.Origin {
	o := mesh.Origin{Kind: "DestinationRule", Namespace: c.rule.Namespace, Name: c.rule.Name}
	switch {
	case len(c.selector()) > 0:
		o.Level = mesh.LevelWorkload
	case !isWildcard(c.host):
		o.Level = mesh.LevelService
	case c.rule.Namespace == root:
		o.Level = mesh.LevelMesh
	default:
		o.Level = mesh.LevelNamespace
	}
	return o
}

// lookup is where a client looks for the rules of a service.
type lookup struct {
	root      string
	client    *mesh.Workload // may be nil: then rules that select workloads are passed over
	namespace string         // the client's
	svc       *mesh.Service
}

// find returns the rules for the one host that wins, oldest first, and the
// losers. The order is Istio's: rules of the client's namespace, then those
// that the service's namespace exports, then those that the root namespace
// exports. The first place with any match ends the search; there an exact host
// beats a wildcard and a longer wildcard a shorter one.
func (l lookup) find(w *world.World) (group []candidate, lost []Loser) {
	var found []candidate
	var out []Loser
	covers := func(r *networking.DestinationRule) bool {
		return hostMatches(ruleHost(r.Spec.GetHost(), r.Namespace), l.svc.Hostname)
	}
	for _, r := range oldestFirst(w.DestinationRules, covers) {
		c := candidate{rule: r, host: ruleHost(r.Spec.GetHost(), r.Namespace)}
		step, why := l.place(c)
		if why != "" {
			out = append(out, Loser{c.origin(l.root), why})
			continue
		}
		c.step = step
		found = append(found, c)
	}
	slices.SortStableFunc(found, precedence) // stable: the oldest stay first
	for _, c := range found {
		if precedence(found[0], c) == 0 && maps.Equal(found[0].selector(), c.selector()) {
			group = append(group, c)
			continue
		}
		lost = append(lost, Loser{c.origin(l.root), l.beaten(found[0], c)})
	}
	return group, append(lost, out...)
}

// RulesSelecting are the names of the DestinationRules whose workloadSelector
// selects a client. Clients with a proxy that are of one namespace and selected by
// the same rules follow the same rules throughout.
func RulesSelecting(w *world.World, client *mesh.Workload) []string {
	var out []string
	for _, r := range w.DestinationRules {
		selector := r.Spec.GetWorkloadSelector().GetMatchLabels()
		if len(selector) > 0 && r.Namespace == client.Namespace && subsetOf(selector, client.Labels) {
			out = append(out, r.Name)
		}
	}
	return out
}

// Ruled reports whether any DestinationRule covers a service, be it for one client
// alone. All clients speak alike to one that none covers.
func Ruled(w *world.World, svc *mesh.Service) bool {
	return slices.ContainsFunc(w.DestinationRules, func(r *networking.DestinationRule) bool {
		return hostMatches(ruleHost(r.Spec.GetHost(), r.Namespace), svc.Hostname)
	})
}

// place is the step at which the lookup meets a rule, or why it never does.
func (l lookup) place(c candidate) (step int, why string) {
	ns, exportTo := c.rule.Namespace, c.rule.Spec.GetExportTo()
	if len(c.selector()) > 0 {
		if ns != l.namespace {
			return 0, "its workloadSelector selects workloads of namespace " + ns + " only"
		}
		if l.client == nil || !subsetOf(c.selector(), l.client.Labels) {
			return 0, "its workloadSelector does not select the client"
		}
	}
	switch {
	case ns == l.namespace && ns != l.root:
		return 0, ""
	case ns == l.namespace && len(exportTo) > 0 && !exported(exportTo, ns, "*"):
		// A rule that the root namespace keeps to itself is meant for its own
		// workloads, that is, the gateways.
		return 0, ""
	case ns != l.svc.Namespace && ns != l.root:
		return 0, "a client in namespace " + l.namespace + " does not look into namespace " + ns
	case !exported(exportTo, ns, l.namespace):
		return 0, "its exportTo does not include namespace " + l.namespace
	case ns == l.svc.Namespace:
		return 1, ""
	}
	return 2, ""
}

// exported reports whether exportTo of an object in a namespace includes
// another namespace. None means everywhere. Asked for "*" it reports whether
// the object is visible outside of its own namespace at all.
func exported(exportTo []string, own, to string) bool {
	if len(exportTo) == 0 {
		return true
	}
	return slices.ContainsFunc(exportTo, func(e string) bool {
		if e == "." {
			e = own
		}
		return e == "*" || e == to || to == "*" && e != own
	})
}

// precedence orders candidates, the one that wins first. Equal ones are for the
// same host and are merged.
func precedence(a, b candidate) int {
	return cmp.Or(
		cmp.Compare(a.step, b.step),
		cmp.Compare(rank(isWildcard(a.host)), rank(isWildcard(b.host))),
		cmp.Compare(len(b.host), len(a.host)),
		cmp.Compare(rank(len(a.selector()) == 0), rank(len(b.selector()) == 0)),
	)
}

func rank(last bool) int {
	if last {
		return 1
	}
	return 0
}

// beaten is why a candidate lost to the winner.
func (l lookup) beaten(winner, c candidate) string {
	by := winner.origin(l.root).String()
	switch {
	case winner.step != c.step:
		place := [...]string{"the client's namespace", "the service's namespace", "the root namespace"}[winner.step]
		return by + " is found first, in " + place + ": the search ends there"
	case isWildcard(winner.host) != isWildcard(c.host):
		return by + " names the host exactly, which beats the wildcard " + c.host
	case len(winner.host) != len(c.host):
		return by + " has the longer wildcard " + winner.host + ", which beats " + c.host
	case len(c.selector()) == 0:
		return by + " selects the client by its workloadSelector"
	default:
		return seniority(winner.rule, by, c.rule) + " and selects the client too"
	}
}
