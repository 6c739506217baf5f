package xds

import (
	"fmt"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"hasp/mesh"
)

// RouteNames are the names of the route resources that the listeners among r
// refer to, sorted. Listeners that cannot be read are left out: Decode names
// them.
func RouteNames(r Resources) []string {
	var names []string
	for _, res := range r[ListenerType] {
		l := new(listenerv3.Listener)
		if res.Body.UnmarshalTo(l) != nil {
			continue
		}
		for _, fc := range l.GetFilterChains() {
			if m, err := readHTTPManager(fc.GetFilters()); err == nil {
				names = append(names, m.GetRds().GetRouteConfigName())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func readHTTPManager(filters []*listenerv3.Filter) (*hcmv3.HttpConnectionManager, error) {
	m := new(hcmv3.HttpConnectionManager)
	if err := readFilter(filters, m); err != nil {
		return nil, err
	}
	if err := only(m, "stat_prefix", "rds", "http_filters", "strip_any_host_port", "access_log"); err != nil {
		return nil, fmt.Errorf("filters[0]: %w", err)
	}
	if f := m.GetHttpFilters(); len(f) != 1 || f[0].GetName() != routerFilter {
		return nil, fmt.Errorf("filters[0]: http_filters other than one %s are not supported", routerFilter)
	}
	return m, nil
}

// readServers is the reverse of gatewayPort: servers by their index.
func (d *decoder) readServers(l *listenerv3.Listener, into map[int]mesh.Server) error {
	if err := only(l, "name", "address", "additional_addresses", "traffic_direction", "listener_filters", "filter_chains"); err != nil {
		return err
	}
	host, port, err := readAddress(l.GetAddress())
	if err != nil || host != anyAddress || l.GetName() != fmt.Sprintf("%s_%d", anyAddress, port) {
		return fmt.Errorf("address: %s:%d is not supported with this name", host, port)
	}
	for i, fc := range l.GetFilterChains() {
		if err := d.readServerChain(fc, port, into); err != nil {
			return fmt.Errorf("filter_chains[%d]: %w", i, err)
		}
	}
	return nil
}

func (d *decoder) readServerChain(fc *listenerv3.FilterChain, port uint16, into map[int]mesh.Server) error {
	if err := only(fc, "name", "filter_chain_match", "filters", "transport_socket", "metadata"); err != nil {
		return err
	}
	if err := only(fc.GetFilterChainMatch(), "server_names"); err != nil {
		return fmt.Errorf("filter_chain_match: %w", err)
	}
	var meta serversMeta
	if err := readMetadata(fc.GetMetadata(), map[string]any{haspKey: &meta}); err != nil {
		return err
	}
	base := mesh.Server{Port: port, Protocol: mesh.HTTP}
	if ts := fc.GetTransportSocket(); ts != nil {
		if len(meta.Servers) != 1 {
			return fmt.Errorf("metadata hasp: %d servers with one transport_socket are not supported", len(meta.Servers))
		}
		s, required, err := readDownstream(ts)
		if err != nil {
			return fmt.Errorf("transport_socket: %w", err)
		}
		if s.cert == "" || s.noVerify || s.sans != nil || required != (s.roots != "") || required && s.roots != clientRoots(s.cert) {
			return fmt.Errorf("transport_socket: certificate %q with roots %q is not supported", s.cert, s.roots)
		}
		base.Protocol, base.Secret, base.Mutual = mesh.HTTPS, s.cert, required
	}
	manager, err := readHTTPManager(fc.GetFilters())
	if err != nil {
		return err
	}
	if err := checkAccessLog(manager.GetAccessLog(), d.c.Settings); err != nil {
		return fmt.Errorf("filters[0]: %w", err)
	}
	name := manager.GetRds().GetRouteConfigName()
	routes, err := readRoutes(d.in, name)
	if err != nil {
		return err
	}
	for _, sm := range meta.Servers {
		if _, ok := into[sm.Index]; ok {
			return fmt.Errorf("metadata hasp: two servers of index %d", sm.Index)
		}
		s := base
		s.Name, s.Hosts, s.HTTPSRedirect, s.Origin = sm.Name, sm.Hosts, sm.HTTPSRedirect, sm.Origin
		if s.Routes, err = routes.of(sm.Index); err != nil {
			return fmt.Errorf("RouteConfiguration %q: %w", name, err)
		}
		into[sm.Index] = s
	}
	return nil
}

// putServers puts the servers in their order.
func (d *decoder) putServers(found map[int]mesh.Server) error {
	for i := range len(found) {
		s, ok := found[i]
		if !ok {
			return fmt.Errorf("metadata hasp: of %d servers none has index %d", len(found), i)
		}
		if len(s.Hosts) == 0 {
			return fmt.Errorf("server %s on port %d: it has no hosts", s.Name, s.Port)
		}
		d.c.Gateway = append(d.c.Gateway, s)
	}
	return nil
}
