package truth

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	networking "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/api"
	"hasp/mesh"
	"hasp/policy"
	"hasp/world"
)

// idle are the candidate's objects that decide nothing: they lose to others, or
// are about nobody.
func idle(before, after *world.World) []string {
	d := deciders{w: after, decides: map[mesh.Origin]bool{}, lost: map[mesh.Origin]string{}}
	var out []string
	say := func(o mesh.Origin, otherwise string) {
		switch {
		case d.decides[o]:
		case d.lost[o] != "":
			out = append(out, fmt.Sprintf("%s decides nothing: %s", o, d.lost[o]))
		default:
			out = append(out, fmt.Sprintf("%s decides nothing: %s", o, otherwise))
		}
	}
	peers := fresh(before.PeerAuthentications, after.PeerAuthentications)
	policies := fresh(before.Policies, after.Policies)
	meshPolicies := fresh(before.MeshPolicies, after.MeshPolicies)
	if len(peers)+len(policies)+len(meshPolicies) > 0 {
		d.servers()
	}
	for _, p := range peers {
		say(mesh.Origin{Kind: "PeerAuthentication", Namespace: p.Namespace, Name: p.Name}, "there is no workload with a sidecar that it is about")
		out = append(out, strayPorts(after, p)...)
	}
	for _, p := range policies {
		say(mesh.Origin{Kind: "Policy", Namespace: p.Namespace, Name: p.Name}, "there is no workload with a sidecar behind its targets")
	}
	for _, p := range meshPolicies {
		say(mesh.Origin{Kind: "MeshPolicy", Name: p.Name}, "there is no workload with a sidecar")
	}
	for _, r := range fresh(before.DestinationRules, after.DestinationRules) {
		d.clients(r)
		say(mesh.Origin{Kind: "DestinationRule", Namespace: r.Namespace, Name: r.Name}, fmt.Sprintf("no service that a client of the mesh sees is %s", r.Spec.GetHost()))
	}
	for _, p := range fresh(before.AuthorizationPolicies, after.AuthorizationPolicies) {
		if api.DryRun(p.Annotations) || !authorizes(after, p) {
			out = append(out, fmt.Sprintf("AuthorizationPolicy %s/%s decides nothing: it is only tried out, or there is no workload with a sidecar that it is about", p.Namespace, p.Name))
		}
	}
	return out
}

// fresh are the objects that are new or changed.
func fresh[T metav1.Object](before, after []T) []T {
	was := map[string]T{}
	for _, o := range before {
		was[o.GetNamespace()+"/"+o.GetName()] = o
	}
	var out []T
	for _, o := range after {
		old, there := was[o.GetNamespace()+"/"+o.GetName()]
		if !there || any(old) != any(o) && !reflect.DeepEqual(old, o) {
			out = append(out, o)
		}
	}
	return out
}

// deciders are the objects that decide something, and why others do not.
type deciders struct {
	w       *world.World
	decides map[mesh.Origin]bool
	lost    map[mesh.Origin]string
}

func (d *deciders) note(by mesh.Origin, lost []policy.Loser) {
	by.Level = ""
	d.decides[by] = true
	for _, l := range lost {
		l.Origin.Level = ""
		if d.lost[l.Origin] == "" {
			d.lost[l.Origin] = l.Why
		}
	}
}

// servers asks about every port of every workload with a sidecar.
func (d *deciders) servers() {
	for _, wl := range d.w.Workloads {
		if wl.Role != mesh.RoleSidecar {
			continue
		}
		for _, p := range portsOf(d.w, wl) {
			s := policy.ServerMode(d.w, wl, p)
			d.note(s.Origin, s.Lost)
		}
	}
}

// portsOf a workload that something may speak of, and 0 for all others.
func portsOf(w *world.World, wl *mesh.Workload) []uint16 {
	out := []uint16{0}
	for _, p := range wl.Ports {
		out = append(out, p.Number)
	}
	for _, s := range w.ServicesOf(wl) {
		for _, sp := range s.Ports {
			if n, ok := sp.On(wl); ok {
				out = append(out, n)
			}
		}
	}
	for _, s := range w.ServicesLeadingTo(wl) {
		for _, e := range s.Endpoints {
			if e.Workload == wl.Key() {
				out = append(out, e.Port)
			}
		}
	}
	for _, p := range w.PeerAuthentications {
		for n := range p.Spec.GetPortLevelMtls() {
			if p.Namespace == wl.Namespace {
				out = append(out, uint16(n))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// clients asks about every service that a rule may be about, until it decides.
func (d *deciders) clients(r *networking.DestinationRule) {
	o := mesh.Origin{Kind: "DestinationRule", Namespace: r.Namespace, Name: r.Name}
	subsets := []string{""}
	for _, s := range r.Spec.GetSubsets() {
		subsets = append(subsets, s.GetName())
	}
	groups := audiences(d.w)
	slices.SortStableFunc(groups, func(a, b []*mesh.Workload) int { // its own namespace says best why it loses
		return cmp.Compare(abroad(a[0], r.Namespace), abroad(b[0], r.Namespace))
	})
	for _, svc := range d.w.Services {
		if !covers(r, svc.Hostname) {
			continue
		}
		for _, group := range groups {
			for _, sp := range svc.Ports {
				for _, subset := range subsets {
					c := policy.ClientTLS(d.w, group[0], group[0].Namespace, svc, sp.Number, subset)
					if d.note(c.Origin, c.Lost); d.decides[o] {
						return
					}
				}
			}
		}
	}
}

func abroad(wl *mesh.Workload, namespace string) int {
	if wl.Namespace == namespace {
		return 0
	}
	return 1
}

// covers reports whether a rule may be about a host; policy decides.
func covers(r *networking.DestinationRule, hostname string) bool {
	host := r.Spec.GetHost()
	suffix, wild := strings.CutPrefix(host, "*")
	switch {
	case wild:
		return strings.HasSuffix(hostname, suffix)
	case strings.Contains(host, "."):
		return host == hostname
	}
	return hostname == host+"."+r.Namespace+".svc."+api.DomainSuffix
}

func authorizes(w *world.World, p *securityv1.AuthorizationPolicy) bool {
	return slices.ContainsFunc(w.Workloads, func(wl *mesh.Workload) bool {
		if wl.Role != mesh.RoleSidecar {
			return false
		}
		a := policy.Authorization(w, wl)
		return slices.ContainsFunc(append(slices.Clone(a.Deny), a.Allow...), func(r mesh.AuthorizationRules) bool {
			return r.Origin.Namespace == p.Namespace && r.Origin.Name == p.Name
		})
	})
}

// strayPorts of a PeerAuthentication are those that no workload it selects is
// known to have: they are the workload's ports there, not a service's.
func strayPorts(w *world.World, p *securityv1.PeerAuthentication) []string {
	var out []string
	selector := p.Spec.GetSelector().GetMatchLabels()
	for n := range p.Spec.GetPortLevelMtls() {
		found, known := false, false
		for _, wl := range w.Workloads {
			if wl.Namespace != p.Namespace || !has(wl.Labels, selector) {
				continue
			}
			known = true
			bare := &world.World{Mesh: w.Mesh, Services: w.Services} // without the object itself
			found = found || slices.Contains(portsOf(bare, wl), uint16(n))
		}
		if known && !found {
			out = append(out, fmt.Sprintf("PeerAuthentication %s/%s: no workload that it selects has port %d (portLevelMtls goes by the workload's ports, not a Service's)", p.Namespace, p.Name, n))
		}
	}
	slices.Sort(out)
	return out
}

func has(labels, want map[string]string) bool {
	for k, v := range want {
		if labels[k] != v {
			return false
		}
	}
	return true
}
