package xds

import (
	"fmt"
	"math"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"hasp/mesh"
)

// routeMeta is our part of a route's metadata. One HTTPRoute is several of
// Envoy's: one for each host (Envoy looks a host up first, then goes through
// its routes) and one for each alternative match.
type routeMeta struct {
	Server int         `json:"server"` // its index
	Route  int         `json:"route"`  // in the server
	Match  *int        `json:"match,omitempty"`
	Hosts  []string    `json:"hosts"`
	Origin mesh.Origin `json:"origin,omitzero"`
	// AnyPath: the match names no path; Envoy's has to and says "/".
	AnyPath bool `json:"anyPath,omitempty"`
	// Equal: the weights are all 0, which Envoy does not take.
	Equal bool `json:"equalWeights,omitempty"`
}

// routes makes the RouteConfiguration that the servers share.
func (e *encoder) routes(name string, servers []indexed) error {
	rc := &routev3.RouteConfiguration{Name: name}
	hosts := map[string]*routev3.VirtualHost{}
	host := func(domain string) *routev3.VirtualHost {
		vh := hosts[domain]
		if vh == nil {
			vh = &routev3.VirtualHost{Name: domain, Domains: []string{domain}}
			hosts[domain] = vh
			rc.VirtualHosts = append(rc.VirtualHosts, vh)
		}
		return vh
	}
	for _, s := range servers {
		if len(s.Hosts) == 0 {
			return fmt.Errorf("server %s: it has no hosts", s.Name)
		}
		for i, r := range s.Routes {
			if len(r.Hosts) == 0 {
				return fmt.Errorf("server %s: route %d has no hosts", s.Name, i)
			}
			envoy, err := envoyRoutes(s.index, i, r)
			if err != nil {
				return fmt.Errorf("server %s: route %d: %w", s.Name, i, err)
			}
			for _, h := range slices.Compact(slices.Sorted(slices.Values(r.Hosts))) {
				vh := host(h)
				vh.Routes = append(vh.Routes, envoy...)
			}
		}
		if s.HTTPSRedirect {
			for _, h := range s.Hosts {
				host(h).RequireTls = routev3.VirtualHost_ALL
			}
		}
	}
	return e.add(RouteType, name, rc)
}

func envoyRoutes(server, index int, r mesh.HTTPRoute) ([]*routev3.Route, error) {
	matches, listed := r.Matches, true
	if len(matches) == 0 {
		matches, listed = []mesh.HTTPMatch{{}}, false
	}
	var out []*routev3.Route
	for i, hm := range matches {
		meta := routeMeta{Server: server, Route: index, Hosts: r.Hosts, Origin: r.Origin}
		if listed {
			meta.Match = &i
		}
		m, anyPath, err := envoyMatch(hm)
		if err != nil {
			return nil, fmt.Errorf("match %d: %w", i, err)
		}
		meta.AnyPath = anyPath
		route := &routev3.Route{Name: fmt.Sprintf("%d.%d", index, i), Match: m}
		if meta.Equal, err = setAction(route, r); err != nil {
			return nil, err
		}
		if route.Metadata, err = metadata(map[string]any{haspKey: meta}); err != nil {
			return nil, err
		}
		out = append(out, route)
	}
	return out, nil
}

func envoyMatch(m mesh.HTTPMatch) (out *routev3.RouteMatch, anyPath bool, err error) {
	out = new(routev3.RouteMatch)
	set := 0
	if m.PathExact != "" {
		set++
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: m.PathExact}
	}
	if m.PathPrefix != "" {
		set++
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: m.PathPrefix}
	}
	if m.PathRegex != "" {
		set++
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: m.PathRegex}}
	}
	switch set {
	case 0:
		anyPath = true
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/"}
	case 1:
	default:
		return nil, false, fmt.Errorf("more than one of exact, prefix and regex for the path")
	}
	if m.Method != "" {
		out.Headers = []*routev3.HeaderMatcher{{Name: ":method", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
			StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: m.Method}},
		}}}
	}
	return out, anyPath, nil
}

// setAction says where the requests go. A route to nothing answers 503, as
// Istio's does.
func setAction(route *routev3.Route, r mesh.HTTPRoute) (equal bool, err error) {
	if len(r.To) == 0 {
		route.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 503}}
		return false, nil
	}
	a := &routev3.RouteAction{PrefixRewrite: r.Rewrite, Timeout: durationpb.New(0)} // no timeout, Istio's default
	route.Action = &routev3.Route_Route{Route: a}
	if len(r.To) == 1 && r.To[0].Weight == 0 {
		a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: r.To[0].Cluster}
		return false, nil
	}
	equal = !slices.ContainsFunc(r.To, func(t mesh.WeightedTarget) bool { return t.Weight != 0 })
	wc := new(routev3.WeightedCluster)
	for _, t := range r.To {
		if t.Weight < 0 || t.Weight > math.MaxInt32 {
			return false, fmt.Errorf("weight %d of cluster %q is out of range", t.Weight, t.Cluster)
		}
		w := uint32(t.Weight)
		if equal {
			w = 1
		}
		wc.Clusters = append(wc.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: t.Cluster, Weight: wrapperspb.UInt32(w)})
	}
	a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: wc}
	return equal, nil
}
