package xds

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"hasp/mesh"
)

// istioCluster is the metadata that Istio writes on a cluster.
type istioCluster struct {
	Port     uint16         `json:"default_original_port"`
	Services []istioService `json:"services,omitempty"`
	Subset   string         `json:"subset,omitempty"`
}

type istioService struct {
	Host      string `json:"host"`
	Namespace string `json:"namespace,omitempty"`
}

// haspCluster is our part.
type haspCluster struct {
	Protocol mesh.Protocol `json:"protocol,omitempty"`
	TLS      clientMeta    `json:"tls,omitzero"`
}

func (e *encoder) clusterResources() error {
	for _, c := range e.c.Outbound.Clusters {
		if reserved(c.Name) {
			return fmt.Errorf("a cluster cannot have the name %q", c.Name)
		}
		if err := e.cluster(c); err != nil {
			return err
		}
		if e.clusters != nil {
			e.clusters[c.Name] = true
		}
	}
	return nil
}

// reserved names are of clusters that Encode makes itself.
func reserved(name string) bool {
	switch name {
	case passthroughName, blackHoleName, inboundAnyName, PeersName:
		return true
	}
	return strings.HasPrefix(name, inboundPrefix) || strings.HasPrefix(name, peerPrefix)
}

func (e *encoder) cluster(c mesh.Cluster) error {
	m := &clusterv3.Cluster{Name: c.Name, ConnectTimeout: connectTimeout(e.c.Settings)}
	if c.Protocol == mesh.HTTP2 || c.Protocol == mesh.GRPC {
		m.Http2ProtocolOptions = &corev3.Http2ProtocolOptions{} // for an Envoy that is a gateway
	}
	tls, err := clientTLS(m, c, e.c.MinTLS)
	if err != nil {
		return fmt.Errorf("cluster %q: %w", c.Name, err)
	}
	m.Metadata, err = metadata(map[string]any{
		istioKey: istioCluster{Port: c.Port, Subset: c.Subset, Services: []istioService{{Host: c.Hostname, Namespace: c.Namespace}}},
		haspKey:  haspCluster{Protocol: c.Protocol, TLS: tls},
	})
	if err != nil {
		return fmt.Errorf("cluster %q: %w", c.Name, err)
	}
	eps, err := assignment(c.Name, c.Port, c.Endpoints)
	if err != nil {
		return fmt.Errorf("cluster %q: %w", c.Name, err)
	}
	switch {
	case c.OriginalDst:
		// Envoy never asks for its endpoints; our proxy does, for their identities.
		m.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST}
		m.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
	case slices.ContainsFunc(c.Endpoints, func(ep mesh.Endpoint) bool { return !ep.Addr.IsValid() }):
		// EDS takes addresses only.
		m.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		m.LoadAssignment = eps
		return e.add(ClusterType, c.Name, m)
	default:
		m.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
		m.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: adsSource(), ServiceName: c.Name}
	}
	if err := e.add(ClusterType, c.Name, m); err != nil {
		return err
	}
	return e.add(EndpointType, c.Name, eps)
}

// originalDst is a cluster that goes where the connection was going. For
// inbound ones it goes there from 127.0.0.6, by which capture knows it.
func (e *encoder) originalDst(name string, inbound bool) *clusterv3.Cluster {
	m := &clusterv3.Cluster{
		Name: name, ConnectTimeout: connectTimeout(e.c.Settings), LbPolicy: clusterv3.Cluster_CLUSTER_PROVIDED,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
	}
	if inbound {
		m.UpstreamBindConfig = &corev3.BindConfig{SourceAddress: socketAddress("127.0.0.6", 0).GetSocketAddress()}
	}
	return m
}

func (d *decoder) clusters() error {
	for _, name := range d.in.Names(ClusterType) {
		if reserved(name) {
			continue // derived from the listeners, says nothing by itself
		}
		m := new(clusterv3.Cluster)
		if err := get(d.in, ClusterType, name, m); err != nil {
			return err
		}
		c, err := d.cluster(m)
		if err != nil {
			return fmt.Errorf("Cluster %q: %w", name, err)
		}
		d.c.Outbound.Clusters = append(d.c.Outbound.Clusters, c)
	}
	return nil
}

func (d *decoder) cluster(m *clusterv3.Cluster) (mesh.Cluster, error) {
	c := mesh.Cluster{Name: m.GetName()}
	if err := only(m, "name", "type", "eds_cluster_config", "connect_timeout", "lb_policy", "load_assignment",
		"transport_socket", "transport_socket_matches", "metadata", "http2_protocol_options"); err != nil {
		return c, err
	}
	if err := checkConnectTimeout(m.GetConnectTimeout(), d.c.Settings); err != nil {
		return c, err
	}
	var istio istioCluster
	var own haspCluster
	if err := readMetadata(m.GetMetadata(), map[string]any{istioKey: &istio, haspKey: &own}); err != nil {
		return c, err
	}
	if len(istio.Services) != 1 {
		return c, fmt.Errorf("metadata istio: %d services are not supported, one is", len(istio.Services))
	}
	c.Hostname, c.Namespace = istio.Services[0].Host, istio.Services[0].Namespace
	c.Port, c.Subset, c.Protocol = istio.Port, istio.Subset, own.Protocol
	var err error
	if c.TLS, err = readClientTLS(m, own.TLS); err != nil {
		return c, err
	}
	c.Endpoints, err = d.endpoints(m, c.Port)
	c.OriginalDst = m.GetType() == clusterv3.Cluster_ORIGINAL_DST
	return c, err
}

func (d *decoder) endpoints(m *clusterv3.Cluster, port uint16) ([]mesh.Endpoint, error) {
	eps := m.GetLoadAssignment()
	switch t := m.GetType(); t {
	case clusterv3.Cluster_STRICT_DNS:
	case clusterv3.Cluster_EDS, clusterv3.Cluster_ORIGINAL_DST:
		if eps != nil {
			return nil, fmt.Errorf("field load_assignment is not supported in a cluster of type %s", t)
		}
		if name := m.GetEdsClusterConfig().GetServiceName(); t == clusterv3.Cluster_EDS && name != m.GetName() {
			return nil, fmt.Errorf("eds_cluster_config: service_name %q is not supported, the cluster's name is", name)
		}
		eps = new(endpointv3.ClusterLoadAssignment)
		if err := get(d.in, EndpointType, m.GetName(), eps); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("type %s is not supported", t)
	}
	out, err := readAssignment(eps, port)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(out, func(a, b mesh.Endpoint) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port))
	})
	return out, nil
}
