package policy

import (
	"cmp"
	"slices"

	"hasp/mesh"
	"hasp/world"
)

// Subset is a named part of a service's endpoints.
type Subset struct {
	Name   string
	Labels map[string]string // an endpoint must carry all of them
	Origin mesh.Origin       // the DestinationRule that defines it
}

// Subsets are those that a client in a namespace sees of a service, by name:
// the pooled subsets of the rules that [ClientTLS] goes by, the oldest first of
// a name. A nil client stands for any workload with a proxy.
func Subsets(w *world.World, client *mesh.Workload, namespace string, svc *mesh.Service) []Subset {
	if client != nil && client.Role == mesh.RoleNone {
		return nil
	}
	l := lookup{root: w.Mesh.RootNamespace, client: client, namespace: namespace, svc: svc}
	group, _ := l.find(w)
	var out []Subset
	for _, c := range group {
		for _, s := range c.rule.Spec.GetSubsets() {
			if !slices.ContainsFunc(out, func(o Subset) bool { return o.Name == s.GetName() }) {
				out = append(out, Subset{Name: s.GetName(), Labels: s.GetLabels(), Origin: c.origin(l.root)})
			}
		}
	}
	slices.SortFunc(out, func(a, b Subset) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Visible reports whether a service is exported to a namespace.
func Visible(svc *mesh.Service, namespace string) bool {
	return svc.Namespace == namespace || exported(svc.ExportTo, svc.Namespace, namespace)
}
