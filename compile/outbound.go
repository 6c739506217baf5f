package compile

import (
	"cmp"
	"slices"

	"hasp/mesh"
	"hasp/policy"
	"hasp/world"
)

// outbound is what a sidecar does with the connections of its workload: one
// cluster for each port of each service it may see, and the addresses that lead
// there.
func outbound(w *world.World, wl *mesh.Workload) mesh.Outbound {
	out := mesh.Outbound{AllowAny: w.Mesh.OutboundAllowAny}
	seen := map[string]bool{}
	for _, s := range visibleServices(w, wl.Namespace) {
		for _, p := range s.Ports {
			c := cluster(w, wl, s, p.Number, "")
			if seen[c.Name] {
				continue
			}
			seen[c.Name] = true
			out.Clusters = append(out.Clusters, c)
			out.Listeners = append(out.Listeners, listeners(s, c)...)
		}
	}
	sortOutbound(&out)
	// Two headless services may pick the same pods: the first name keeps the address.
	out.Listeners = slices.CompactFunc(out.Listeners, func(a, b mesh.Listener) bool { return a.Addr == b.Addr && a.Port == b.Port })
	return out
}

func sortOutbound(out *mesh.Outbound) {
	slices.SortFunc(out.Clusters, func(a, b mesh.Cluster) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(out.Listeners, func(a, b mesh.Listener) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port))
	})
}

// visibleServices puts the namespace's own services first, so that they win a
// name or an address that another namespace claims too.
func visibleServices(w *world.World, namespace string) []*mesh.Service {
	var own, others []*mesh.Service
	for _, s := range w.Services {
		switch {
		case s.Namespace == namespace:
			own = append(own, s)
		case policy.Visible(s, namespace):
			others = append(others, s)
		}
	}
	return append(own, others...)
}

// listeners: the virtual addresses of a service; for a headless one the
// addresses of its endpoints, since that is what its clients dial. A service
// with neither (ServiceEntry, resolution NONE) matches the port at any address.
func listeners(s *mesh.Service, c mesh.Cluster) []mesh.Listener {
	var out []mesh.Listener
	switch {
	case s.Headless:
		for _, e := range c.Endpoints {
			if e.Addr.IsValid() {
				out = append(out, mesh.Listener{Addr: e.Addr, Port: e.Port, Cluster: c.Name})
			}
		}
	case len(s.Addresses) > 0:
		for _, a := range s.Addresses {
			out = append(out, mesh.Listener{Addr: a, Port: c.Port, Cluster: c.Name})
		}
	case s.Resolution == "NONE":
		out = append(out, mesh.Listener{Port: c.Port, Cluster: c.Name})
	}
	return out
}

// cluster is one port (and subset) of a service as a client sees it.
func cluster(w *world.World, client *mesh.Workload, s *mesh.Service, port uint16, subset string) mesh.Cluster {
	tls := policy.ClientTLS(w, client, client.Namespace, s, port, subset)
	c := mesh.Cluster{
		Name:      clusterName(s.Hostname, port, subset),
		Hostname:  s.Hostname,
		Namespace: s.Namespace,
		Port:      port, Subset: subset,
		Protocol:    protocolOf(s, port),
		OriginalDst: s.Headless || s.Resolution == "NONE",
		TLS:         tls.TLS,
	}
	labels := subsetLabels(w, client, s, subset)
	for _, e := range s.Endpoints {
		if e.ServicePort != port || !e.Addr.IsValid() && e.Host == "" || !hasLabels(e.Labels, labels) {
			continue
		}
		if client.Role == mesh.RoleGateway && !reachable(w, s, e) {
			continue
		}
		e.Labels = nil // the proxy has no use for them
		if e.Sidecar {
			// A port whose server mode is DISABLE takes no mesh TLS, so auto
			// mTLS must not speak it there.
			if wl := w.Workload(e.Workload); wl != nil && tls.Auto && !policy.TakesMeshTLS(w, wl, e.Port) {
				e.Sidecar = false
			}
		}
		c.Endpoints = append(c.Endpoints, e)
	}
	slices.SortFunc(c.Endpoints, func(a, b mesh.Endpoint) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port))
	})
	return c
}

// reachable: a gateway chooses among the endpoints of a headless service, which
// are there ready or not, where a sidecar's workload has chosen already.
func reachable(w *world.World, s *mesh.Service, e mesh.Endpoint) bool {
	if !s.Headless {
		return true
	}
	wl := w.Workload(e.Workload)
	return wl == nil || wl.Ready
}

// subsetLabels are those of the subset as the client's rules define it.
func subsetLabels(w *world.World, client *mesh.Workload, s *mesh.Service, subset string) map[string]string {
	if subset == "" {
		return nil
	}
	for _, sub := range policy.Subsets(w, client, client.Namespace, s) {
		if sub.Name == subset {
			return sub.Labels
		}
	}
	return nil
}

func hasLabels(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}
