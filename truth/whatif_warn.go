package truth

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networking "istio.io/client-go/pkg/apis/networking/v1"

	"hasp/api"
	"hasp/mesh"
	"hasp/policy"
	"hasp/world"
)

// NothingChanges is the warning of an answer about nothing.
const NothingChanges = "the candidate changes nothing that the mesh goes by"

// maxUnseen is how many services are named whose clients were never seen.
const maxUnseen = 20

// warnings are what facts cannot tell.
func (q *question) warnings(relations []*relation) []string {
	out := slices.Clone(q.then.refused)
	same := *q.then.w
	if same.Generation = q.was.w.Generation; q.was.w.Equal(&same) {
		out = append(out, NothingChanges)
	}
	for _, p := range q.f.Proxies {
		if p.Dropped > 0 {
			out = append(out, fmt.Sprintf("the proxy of %s had more connections than it could tell of one by one: more of them may end than are counted", p.Node))
		}
	}
	out = append(out, q.unseen(relations)...)
	out = append(out, lostSubsets(q.was.w, q.then.w)...)
	return append(out, idle(q.was.w, q.then.w)...)
}

// unseen are the clients with a sidecar that speak plaintext to what becomes
// STRICT and were never seen to: the ledger cannot vouch for them. Those that are
// so to several services for the same reason make one warning.
func (q *question) unseen(relations []*relation) []string {
	type pair struct{ from, service string }
	seen := map[pair]bool{}
	for _, t := range relations {
		seen[pair{t.from.Workload, t.service()}] = true
	}
	type group struct{ clients, why string }
	var order []group
	services := map[group][]string{}
	all := audiences(q.then.w)
	for _, svc := range q.then.w.Services {
		if svc.External {
			continue
		}
		own := q.then.w.WorkloadsOf(svc)
		for _, sp := range svc.Ports {
			if !strict(q.then.w, svc, sp.Number) || strict(q.was.w, q.was.w.Service(svc.Namespace, svc.Hostname), sp.Number) {
				continue
			}
			clients := map[string][]string{} // by reason
			for _, audience := range all {
				why, open := plaintextBy(q.then.w, audience[0], svc, sp.Number)
				if !open {
					continue
				}
				for _, wl := range audience {
					if !seen[pair{wl.Key(), svc.Hostname}] && !slices.Contains(own, wl) {
						clients[why] = append(clients[why], policy.WorkloadName(wl))
					}
				}
			}
			for _, why := range slices.Sorted(maps.Keys(clients)) {
				names := clients[why]
				slices.Sort(names)
				g := group{few(slices.Compact(names)), why}
				if services[g] == nil {
					order = append(order, g)
				}
				services[g] = append(services[g], fmt.Sprintf("%s:%d", svc.Hostname, sp.Number))
			}
		}
	}
	var out []string
	for _, g := range order {
		out = append(out, fmt.Sprintf("never seen calling %s, and refused if they did: %s (%s)", few(services[g]), g.clients, g.why))
	}
	if more := len(out) - maxUnseen; more > 0 {
		out = append(out[:maxUnseen], fmt.Sprintf("and %d more of clients that were never seen", more))
	}
	return out
}

// plaintextBy is why a client with a sidecar speaks plaintext to a service, and
// false when it does not or does not see it.
func plaintextBy(w *world.World, client *mesh.Workload, svc *mesh.Service, port uint16) (why string, open bool) {
	c := policy.ClientTLS(w, client, client.Namespace, svc, port, "")
	switch {
	case !policy.Visible(svc, client.Namespace) || c.Auto || c.Mode == mesh.ClientIstioMutual:
		return "", false
	case c.Set:
		return fmt.Sprintf("%s of %s", c.Mode, c.Origin), true
	}
	return "no DestinationRule asks for TLS and auto mTLS is off", true
}

func strict(w *world.World, svc *mesh.Service, port uint16) bool {
	return svc != nil && policy.ServiceMode(w, svc, port).Mode == mesh.ModeStrict
}

// audiences are the workloads with a proxy, those together that go by the same
// DestinationRules.
func audiences(w *world.World) [][]*mesh.Workload {
	at := map[string]int{}
	var out [][]*mesh.Workload
	for _, wl := range w.Workloads {
		if wl.Role == mesh.RoleNone {
			continue
		}
		key := strings.Join(append(policy.RulesSelecting(w, wl), wl.Namespace), " ")
		i, known := at[key]
		if !known {
			i = len(out)
			at[key] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], wl)
	}
	return out
}

// few of a list of names.
func few(names []string) string {
	const most = 3
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}

// lostSubsets are those that a VirtualService routes to and that no
// DestinationRule defines any more.
func lostSubsets(before, after *world.World) []string {
	was := missingSubsets(before)
	var out []string
	for _, s := range missingSubsets(after) {
		if !slices.Contains(was, s) {
			out = append(out, s)
		}
	}
	return out
}

func missingSubsets(w *world.World) []string {
	var out []string
	for _, v := range w.VirtualServices {
		for _, d := range destinations(v) {
			host := d.GetHost()
			if !strings.Contains(host, ".") {
				host += "." + v.Namespace + ".svc." + api.DomainSuffix
			}
			svc := w.Service(v.Namespace, host)
			if svc == nil || d.GetSubset() == "" {
				continue
			}
			there := slices.ContainsFunc(policy.Subsets(w, nil, v.Namespace, svc), func(s policy.Subset) bool { return s.Name == d.GetSubset() })
			text := fmt.Sprintf("VirtualService %s/%s routes to subset %q of %s, which no DestinationRule defines", v.Namespace, v.Name, d.GetSubset(), host)
			if !there && !slices.Contains(out, text) {
				out = append(out, text)
			}
		}
	}
	return out
}

func destinations(v *networking.VirtualService) []*networkingapi.Destination {
	var out []*networkingapi.Destination
	for _, r := range v.Spec.GetHttp() {
		for _, d := range r.GetRoute() {
			out = append(out, d.GetDestination())
		}
	}
	for _, r := range v.Spec.GetTcp() {
		for _, d := range r.GetRoute() {
			out = append(out, d.GetDestination())
		}
	}
	for _, r := range v.Spec.GetTls() {
		for _, d := range r.GetRoute() {
			out = append(out, d.GetDestination())
		}
	}
	return out
}
