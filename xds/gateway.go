package xds

import (
	"fmt"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"hasp/mesh"
)

const (
	hcmFilter    = "envoy.filters.network.http_connection_manager"
	routerFilter = "envoy.filters.http.router"
)

// serverMeta is our part of a gateway's filter chain: the servers it is for.
// Those of plain HTTP share the chain of their port, those of HTTPS have one
// each, found by SNI.
type serverMeta struct {
	Index         int         `json:"index"` // in ProxyConfig.Gateway
	Name          string      `json:"name,omitempty"`
	Hosts         []string    `json:"hosts,omitempty"`
	HTTPSRedirect bool        `json:"httpsRedirect,omitempty"`
	Origin        mesh.Origin `json:"origin,omitzero"`
}

type serversMeta struct {
	Servers []serverMeta `json:"servers"`
}

// indexed is a server with its place in the configuration.
type indexed struct {
	index int
	mesh.Server
}

// gateway makes one listener for each port that servers are on.
func (e *encoder) gateway() error {
	if len(e.c.Gateway) > 0 && e.c.Role != mesh.RoleGateway {
		return fmt.Errorf("a proxy of role %q has servers of a gateway", e.c.Role)
	}
	byPort := map[uint16][]indexed{}
	var ports []uint16
	for i, s := range e.c.Gateway {
		if err := checkServer(s, e.c.Secrets, e.clusters); err != nil {
			return fmt.Errorf("server %s on port %d: %w", s.Name, s.Port, err)
		}
		if byPort[s.Port] == nil {
			ports = append(ports, s.Port)
		}
		byPort[s.Port] = append(byPort[s.Port], indexed{i, s})
	}
	for _, port := range ports {
		if err := e.gatewayPort(port, byPort[port]); err != nil {
			return fmt.Errorf("gateway port %d: %w", port, err)
		}
	}
	return nil
}

func (e *encoder) gatewayPort(port uint16, servers []indexed) error {
	name := fmt.Sprintf("%s_%d", anyAddress, port)
	l := &listenerv3.Listener{
		Name: name, Address: socketAddress(anyAddress, port), TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		AdditionalAddresses: []*listenerv3.AdditionalAddress{{Address: socketAddress("::", port)}},
	}
	protocol := servers[0].Protocol
	for _, s := range servers {
		if s.Protocol != protocol {
			return fmt.Errorf("servers of protocols %s and %s cannot share it", protocol, s.Protocol)
		}
	}
	var err error
	switch protocol {
	case mesh.HTTP:
		route := fmt.Sprintf("http.%d", port)
		if err := e.routes(route, servers); err != nil {
			return err
		}
		l.FilterChains, err = e.serverChain(nil, servers, route)
	case mesh.HTTPS:
		if l.ListenerFilters, err = listenerFilters(inspectFilter); err != nil {
			return err
		}
		l.FilterChains, err = e.httpsChains(servers)
	default:
		return fmt.Errorf("server %s: protocol %q is not served", servers[0].Name, protocol)
	}
	if err != nil {
		return err
	}
	return e.add(ListenerType, name, l)
}

func (e *encoder) httpsChains(servers []indexed) ([]*listenerv3.FilterChain, error) {
	taken := map[string]string{} // SNI to the server that has it
	var out []*listenerv3.FilterChain
	for _, s := range servers {
		match := new(listenerv3.FilterChainMatch)
		names := []string{"*"}
		if !slices.Contains(s.Hosts, "*") {
			names = slices.Compact(slices.Sorted(slices.Values(s.Hosts)))
			match.ServerNames = names
		}
		for _, name := range names {
			if other, ok := taken[name]; ok {
				return nil, fmt.Errorf("servers %s and %s both have host %s", other, s.Name, name)
			}
			taken[name] = s.Name
		}
		route := fmt.Sprintf("https.%d.%s.%s.%s", s.Port, s.Name, s.Origin.Name, s.Origin.Namespace)
		if err := e.routes(route, []indexed{s}); err != nil {
			return nil, err
		}
		chain, err := e.serverChain(match, []indexed{s}, route)
		if err != nil {
			return nil, err
		}
		out = append(out, chain...)
	}
	return out, nil
}

// serverChain is the chain of some servers, with TLS when they have a secret.
func (e *encoder) serverChain(match *listenerv3.FilterChainMatch, servers []indexed, route string) ([]*listenerv3.FilterChain, error) {
	var meta serversMeta
	for _, s := range servers {
		meta.Servers = append(meta.Servers, serverMeta{s.index, s.Name, s.Hosts, s.HTTPSRedirect, s.Origin})
	}
	md, err := metadata(map[string]any{haspKey: meta})
	if err != nil {
		return nil, err
	}
	filter, err := e.httpManager(route)
	if err != nil {
		return nil, err
	}
	fc := &listenerv3.FilterChain{Name: route, FilterChainMatch: match, Filters: []*listenerv3.Filter{filter}, Metadata: md}
	first := servers[0]
	switch {
	case first.Protocol == mesh.HTTPS && first.Secret == "":
		return nil, fmt.Errorf("server %s: HTTPS without a secret", first.Name)
	case first.Protocol == mesh.HTTPS:
		shape := tlsShape{cert: first.Secret, alpn: []string{"h2", "http/1.1"}}
		if first.Mutual {
			shape.roots = clientRoots(first.Secret)
		}
		fc.TransportSocket, err = downstream(shape, "", first.Mutual)
	}
	return []*listenerv3.FilterChain{fc}, err
}

// clientRoots is the secret that verifies the clients of a server.
func clientRoots(secret string) string {
	if secret == ownCert {
		return meshRoots
	}
	return secret + caSuffix
}

// httpManager reads requests and asks the routes of the name where they go.
func (e *encoder) httpManager(route string) (*listenerv3.Filter, error) {
	router, err := pack(new(routerv3.Router))
	if err != nil {
		return nil, err
	}
	logs, err := accessLog(e.c.Settings)
	if err != nil {
		return nil, err
	}
	body, err := pack(&hcmv3.HttpConnectionManager{
		StatPrefix:     route,
		AccessLog:      logs,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: adsSource(), RouteConfigName: route}},
		HttpFilters:    []*hcmv3.HttpFilter{{Name: routerFilter, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router}}},
		StripPortMode:  &hcmv3.HttpConnectionManager_StripAnyHostPort{StripAnyHostPort: true},
	})
	if err != nil {
		return nil, err
	}
	return &listenerv3.Filter{Name: hcmFilter, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: body}}, nil
}
