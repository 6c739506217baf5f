package xds

import (
	"fmt"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"hasp/mesh"
)

// routeKey names an HTTPRoute of one RouteConfiguration.
type routeKey struct{ server, route int }

// found is an HTTPRoute being put together again.
type found struct {
	mesh.HTTPRoute
	matches map[int]mesh.HTTPMatch // by index; -1 stands for "it lists none"
}

type foundRoutes map[routeKey]*found

// readRoutes is the reverse of routes.
func readRoutes(r Resources, name string) (foundRoutes, error) {
	rc := new(routev3.RouteConfiguration)
	if err := get(r, RouteType, name, rc); err != nil {
		return nil, err
	}
	if err := only(rc, "name", "virtual_hosts"); err != nil {
		return nil, fmt.Errorf("RouteConfiguration %q: %w", name, err)
	}
	out := foundRoutes{}
	for i, vh := range rc.GetVirtualHosts() {
		if err := only(vh, "name", "domains", "routes", "require_tls"); err != nil {
			return nil, fmt.Errorf("RouteConfiguration %q: virtual_hosts[%d]: %w", name, i, err)
		}
		for j, route := range vh.GetRoutes() {
			if err := out.read(route); err != nil {
				return nil, fmt.Errorf("RouteConfiguration %q: virtual_hosts[%d].routes[%d]: %w", name, i, j, err)
			}
		}
	}
	return out, nil
}

func (f foundRoutes) read(r *routev3.Route) error {
	if err := only(r, "name", "match", "route", "direct_response", "metadata"); err != nil {
		return err
	}
	var meta routeMeta
	if err := readMetadata(r.GetMetadata(), map[string]any{haspKey: &meta}); err != nil {
		return err
	}
	got := mesh.HTTPRoute{Hosts: meta.Hosts, Origin: meta.Origin}
	if err := readAction(r, meta.Equal, &got); err != nil {
		return err
	}
	hm, err := readMatch(r.GetMatch(), meta.AnyPath)
	if err != nil {
		return fmt.Errorf("match: %w", err)
	}
	key := routeKey{meta.Server, meta.Route}
	have := f[key]
	if have == nil {
		have = &found{HTTPRoute: got, matches: map[int]mesh.HTTPMatch{}}
		f[key] = have
	}
	if !sameRoute(have.HTTPRoute, got) {
		return fmt.Errorf("metadata hasp: it is not the same route %d of server %d as another", meta.Route, meta.Server)
	}
	n := -1 // no match is listed
	if meta.Match != nil {
		n = *meta.Match
	}
	if other, ok := have.matches[n]; ok && other != hm {
		return fmt.Errorf("match: it is not the same match %d as another", n)
	}
	have.matches[n] = hm
	return nil
}

func sameRoute(a, b mesh.HTTPRoute) bool {
	return a.Origin == b.Origin && a.Rewrite == b.Rewrite && slices.Equal(a.Hosts, b.Hosts) && slices.Equal(a.To, b.To)
}

func readAction(r *routev3.Route, equal bool, into *mesh.HTTPRoute) error {
	if r.GetDirectResponse() != nil {
		if err := only(r.GetDirectResponse(), "status"); err != nil || r.GetDirectResponse().GetStatus() != 503 {
			return fmt.Errorf("direct_response: only a bare 503 is supported")
		}
		return nil
	}
	a := r.GetRoute()
	if err := only(a, "cluster", "weighted_clusters", "prefix_rewrite", "timeout"); err != nil {
		return fmt.Errorf("route: %w", err)
	}
	if a.GetTimeout().AsDuration() != 0 {
		return fmt.Errorf("route: field timeout is not supported")
	}
	into.Rewrite = a.GetPrefixRewrite()
	if c := a.GetCluster(); c != "" {
		into.To = []mesh.WeightedTarget{{Cluster: c}}
		return nil
	}
	if err := only(a.GetWeightedClusters(), "clusters"); err != nil {
		return fmt.Errorf("weighted_clusters: %w", err)
	}
	for i, c := range a.GetWeightedClusters().GetClusters() {
		if err := only(c, "name", "weight"); err != nil {
			return fmt.Errorf("weighted_clusters.clusters[%d]: %w", i, err)
		}
		t := mesh.WeightedTarget{Cluster: c.GetName(), Weight: int(c.GetWeight().GetValue())}
		if equal {
			t.Weight = 0
		}
		into.To = append(into.To, t)
	}
	return nil
}

func readMatch(m *routev3.RouteMatch, anyPath bool) (out mesh.HTTPMatch, err error) {
	if err := only(m, "prefix", "path", "safe_regex", "headers"); err != nil {
		return out, err
	}
	out.PathExact, out.PathPrefix, out.PathRegex = m.GetPath(), m.GetPrefix(), m.GetSafeRegex().GetRegex()
	if anyPath {
		if out.PathPrefix != "/" {
			return out, fmt.Errorf("metadata hasp says any path, the match does not")
		}
		out.PathPrefix = ""
	}
	if err := only(m.GetSafeRegex(), "regex"); err != nil {
		return out, fmt.Errorf("safe_regex: %w", err)
	}
	for i, h := range m.GetHeaders() {
		if i > 0 || h.GetName() != ":method" || only(h, "name", "string_match") != nil || only(h.GetStringMatch(), "exact") != nil {
			return out, fmt.Errorf("headers[%d]: only one exact :method is supported", i)
		}
		out.Method = h.GetStringMatch().GetExact()
	}
	return out, nil
}

// of puts the routes of a server in their order.
func (f foundRoutes) of(server int) ([]mesh.HTTPRoute, error) {
	var out []mesh.HTTPRoute
	for i := 0; ; i++ {
		r, ok := f[routeKey{server, i}]
		if !ok {
			break
		}
		delete(f, routeKey{server, i})
		route := r.HTTPRoute
		if _, none := r.matches[-1]; !none {
			for j := range len(r.matches) {
				m, ok := r.matches[j]
				if !ok {
					return nil, fmt.Errorf("route %d of server %d: of %d matches none has index %d", i, server, len(r.matches), j)
				}
				route.Matches = append(route.Matches, m)
			}
		} else if len(r.matches) > 1 {
			return nil, fmt.Errorf("route %d of server %d: it has both a match and none", i, server)
		}
		out = append(out, route)
	}
	for key := range f {
		if key.server == server {
			return nil, fmt.Errorf("server %d has a route %d but none %d", server, key.route, len(out))
		}
	}
	return out, nil
}
