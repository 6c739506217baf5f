package xds

import (
	"fmt"
	"net/netip"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"hasp/mesh"
)

// anyAddress in the name and address of a listener stands for all addresses.
const anyAddress = "0.0.0.0"

// listeners makes one that is bound to no port for each address that
// virtualOutbound, where captured connections arrive, hands them to.
func (e *encoder) listeners() error {
	for _, l := range e.c.Outbound.Listeners {
		name := listenerName(l.Addr, l.Port)
		if e.clusters != nil && !e.clusters[l.Cluster] {
			return fmt.Errorf("listener %s: there is no cluster %q", name, l.Cluster)
		}
		if l.Addr.IsValid() && (l.Addr.IsUnspecified() || l.Addr.Zone() != "") {
			return fmt.Errorf("listener %s: %s is not the address of a service", name, l.Addr)
		}
		filter, err := e.tcpProxy(l.Cluster)
		if err != nil {
			return fmt.Errorf("listener %s: %w", name, err)
		}
		err = e.add(ListenerType, name, &listenerv3.Listener{
			Name: name, Address: socketAddress(hostOf(l.Addr), l.Port), TrafficDirection: corev3.TrafficDirection_OUTBOUND,
			BindToPort:   wrapperspb.Bool(false),
			FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{filter}}},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// passthrough: what no listener claims goes on as it is, or nowhere. A gateway
// captures nothing, so it has the clusters but no listener.
func (e *encoder) passthrough() error {
	target := blackHoleName
	if e.c.Outbound.AllowAny {
		target = passthroughName
	}
	blackHole := &clusterv3.Cluster{Name: blackHoleName, ConnectTimeout: connectTimeout(e.c.Settings), ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}}
	if err := e.add(ClusterType, blackHoleName, blackHole); err != nil {
		return err
	}
	if e.c.Outbound.AllowAny {
		if err := e.add(ClusterType, passthroughName, e.originalDst(passthroughName, false)); err != nil {
			return err
		}
	}
	if e.c.Role == mesh.RoleGateway {
		return nil
	}
	filter, err := e.tcpProxy(target)
	if err != nil {
		return err
	}
	l := &listenerv3.Listener{
		Name: outboundName, Address: socketAddress(anyAddress, outboundPort), TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		AdditionalAddresses: []*listenerv3.AdditionalAddress{{Address: socketAddress("::", outboundPort)}},
		UseOriginalDst:      wrapperspb.Bool(true),
		FilterChains:        []*listenerv3.FilterChain{{Name: outboundName + "-catchall-tcp", Filters: []*listenerv3.Filter{filter}}},
	}
	if l.ListenerFilters, err = listenerFilters(origDstFilter); err != nil {
		return err
	}
	return e.add(ListenerType, outboundName, l)
}

func hostOf(a netip.Addr) string {
	if !a.IsValid() {
		return anyAddress
	}
	return a.String()
}

// listenerName is Istio's: ADDR_PORT.
func listenerName(a netip.Addr, port uint16) string { return fmt.Sprintf("%s_%d", hostOf(a), port) }

// readOutbound is the reverse for virtualOutbound.
func (d *decoder) readOutbound(l *listenerv3.Listener) error {
	if err := only(l, "name", "address", "additional_addresses", "traffic_direction", "use_original_dst", "listener_filters", "filter_chains"); err != nil {
		return err
	}
	if host, port, err := readAddress(l.GetAddress()); err != nil || host != anyAddress || port != outboundPort {
		return fmt.Errorf("address: only %s:%d is supported", anyAddress, outboundPort)
	}
	target, err := d.onlyCluster(l)
	if err != nil {
		return err
	}
	if target != passthroughName && target != blackHoleName {
		return fmt.Errorf("filter_chains[0]: cluster %q is not supported, %q and %q are", target, passthroughName, blackHoleName)
	}
	d.c.Outbound.AllowAny = target == passthroughName
	return nil
}

// readListener is the reverse for the listener of one address.
func (d *decoder) readListener(l *listenerv3.Listener) error {
	if err := only(l, "name", "address", "traffic_direction", "bind_to_port", "filter_chains"); err != nil {
		return err
	}
	host, port, err := readAddress(l.GetAddress())
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if addr.IsUnspecified() {
		addr = netip.Addr{}
	}
	if want := listenerName(addr, port); l.GetName() != want {
		return fmt.Errorf("the name of its address is %q", want)
	}
	cluster, err := d.onlyCluster(l)
	if err != nil {
		return err
	}
	d.c.Outbound.Listeners = append(d.c.Outbound.Listeners, mesh.Listener{Addr: addr, Port: port, Cluster: cluster})
	return nil
}

// onlyCluster is where a listener with one plain chain sends everything.
func (d *decoder) onlyCluster(l *listenerv3.Listener) (string, error) {
	chains := l.GetFilterChains()
	if len(chains) != 1 {
		return "", fmt.Errorf("filter_chains: %d are not supported, one is", len(chains))
	}
	if err := only(chains[0], "name", "filters"); err != nil {
		return "", fmt.Errorf("filter_chains[0]: %w", err)
	}
	cluster, err := d.readTCPProxy(chains[0].GetFilters())
	if err != nil {
		return "", fmt.Errorf("filter_chains[0]: %w", err)
	}
	return cluster, nil
}
