package xds

import (
	"fmt"
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"hasp/mesh"
)

// assignment is a cluster's endpoints (EDS); port is the cluster's.
func assignment(name string, port uint16, eps []mesh.Endpoint) (*endpointv3.ClusterLoadAssignment, error) {
	out := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	if len(eps) == 0 {
		return out, nil
	}
	group := &endpointv3.LocalityLbEndpoints{LbEndpoints: make([]*endpointv3.LbEndpoint, len(eps))}
	for i, ep := range eps {
		lb, err := lbEndpoint(port, ep)
		if err != nil {
			return nil, fmt.Errorf("endpoint %d: %w", i, err)
		}
		group.LbEndpoints[i] = lb
	}
	out.Endpoints = []*endpointv3.LocalityLbEndpoints{group}
	return out, nil
}

func lbEndpoint(port uint16, ep mesh.Endpoint) (*endpointv3.LbEndpoint, error) {
	host := ep.Host
	if ep.Addr.IsValid() {
		if host != "" {
			return nil, fmt.Errorf("it has both address %s and host %s", ep.Addr, host)
		}
		host = ep.Addr.String()
	}
	if host == "" {
		return nil, fmt.Errorf("it has neither address nor host")
	}
	md, err := endpointMetadata(port, ep)
	if err != nil {
		return nil, err
	}
	return &endpointv3.LbEndpoint{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socketAddress(host, ep.Port)}},
		Metadata:       md,
	}, nil
}

func socketAddress(host string, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

// readAssignment is the reverse of assignment.
func readAssignment(m *endpointv3.ClusterLoadAssignment, port uint16) ([]mesh.Endpoint, error) {
	if err := only(m, "cluster_name", "endpoints"); err != nil {
		return nil, err
	}
	var out []mesh.Endpoint
	for i, group := range m.GetEndpoints() {
		if err := only(group, "locality", "lb_endpoints"); err != nil {
			return nil, fmt.Errorf("endpoints[%d]: %w", i, err)
		}
		for j, lb := range group.GetLbEndpoints() {
			ep, err := readEndpoint(lb, port)
			if err != nil {
				return nil, fmt.Errorf("endpoints[%d].lb_endpoints[%d]: %w", i, j, err)
			}
			out = append(out, ep)
		}
	}
	return out, nil
}

func readEndpoint(lb *endpointv3.LbEndpoint, port uint16) (mesh.Endpoint, error) {
	ep := mesh.Endpoint{ServicePort: port}
	if err := only(lb, "endpoint", "metadata"); err != nil {
		return ep, err
	}
	if err := only(lb.GetEndpoint(), "address"); err != nil {
		return ep, fmt.Errorf("endpoint: %w", err)
	}
	host, p, err := readAddress(lb.GetEndpoint().GetAddress())
	if err != nil {
		return ep, fmt.Errorf("address: %w", err)
	}
	ep.Port = p
	if ep.Addr, err = netip.ParseAddr(host); err != nil {
		ep.Host = host
	}
	return ep, readEndpointMetadata(lb.GetMetadata(), &ep)
}

func readAddress(a *corev3.Address) (host string, port uint16, err error) {
	if err := only(a, "socket_address"); err != nil {
		return "", 0, err
	}
	s := a.GetSocketAddress()
	if err := only(s, "address", "port_value"); err != nil {
		return "", 0, err
	}
	return s.GetAddress(), uint16(s.GetPortValue()), nil // validated to be at most 65535
}
