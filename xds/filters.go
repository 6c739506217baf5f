package xds

import (
	"fmt"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	origdstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	inspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
)

const (
	tcpProxyFilter = "envoy.filters.network.tcp_proxy"
	origDstFilter  = "envoy.filters.listener.original_dst"
	inspectFilter  = "envoy.filters.listener.tls_inspector"
)

// listenerFilters find out the original destination, and whether TLS is spoken.
// They say to Envoy what our proxy does anyway, so Decode does not look at them.
func listenerFilters(names ...string) ([]*listenerv3.ListenerFilter, error) {
	var out []*listenerv3.ListenerFilter
	for _, name := range names {
		var m message = new(origdstv3.OriginalDst)
		if name == inspectFilter {
			m = new(inspectorv3.TlsInspector)
		}
		body, err := pack(m)
		if err != nil {
			return nil, err
		}
		out = append(out, &listenerv3.ListenerFilter{Name: name, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: body}})
	}
	return out, nil
}

func (e *encoder) tcpProxy(cluster string) (*listenerv3.Filter, error) {
	logs, err := accessLog(e.c.Settings)
	if err != nil {
		return nil, err
	}
	body, err := pack(&tcpproxyv3.TcpProxy{StatPrefix: cluster, ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: cluster}, AccessLog: logs})
	if err != nil {
		return nil, err
	}
	return &listenerv3.Filter{Name: tcpProxyFilter, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: body}}, nil
}

// readTCPProxy takes a chain's filters, which must be one tcp_proxy, and
// returns its cluster.
func (d *decoder) readTCPProxy(filters []*listenerv3.Filter) (cluster string, err error) {
	m := new(tcpproxyv3.TcpProxy)
	if err := readFilter(filters, m); err != nil {
		return "", err
	}
	if err := only(m, "stat_prefix", "cluster", "access_log"); err != nil {
		return "", fmt.Errorf("filters[0]: %w", err)
	}
	if err := checkAccessLog(m.GetAccessLog(), d.c.Settings); err != nil {
		return "", fmt.Errorf("filters[0]: %w", err)
	}
	return m.GetCluster(), nil
}

func readFilter(filters []*listenerv3.Filter, into message) error {
	if len(filters) != 1 {
		return fmt.Errorf("filters: %d are not supported, one is", len(filters))
	}
	if err := only(filters[0], "name", "typed_config"); err != nil {
		return fmt.Errorf("filters[0]: %w", err)
	}
	if err := unpack(filters[0].GetTypedConfig(), into); err != nil {
		return fmt.Errorf("filters[0]: %w", err)
	}
	return nil
}
