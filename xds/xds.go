// Package xds carries a mesh.ProxyConfig over the wire as Envoy's xDS v3
// resources, both ways. [Encode] and [Decode] are pure; the streams are in
// packages xds/server and xds/client.
//
// Shapes and names are Istio's, so that a stock Envoy accepts them: listeners
// virtualInbound, virtualOutbound and ADDR_PORT, clusters
// outbound|PORT|SUBSET|HOST with EDS, transport sockets that take the SDS
// secrets "default" and "ROOTCA", tlsMode in endpoint metadata, routes
// http.PORT and https.PORT.NAME.GATEWAY.NAMESPACE at a gateway.
//
// What Envoy has no field for (which object decided, the words of the modes,
// protocols) is filter metadata under the key "hasp", which Envoy carries
// without looking. Two resources are ours alone, and an Envoy never asks for
// them: the Runtime "hasp.proxy" says who the proxy is and which resources make
// up one configuration (see [Complete]); the ClusterLoadAssignment "hasp.peers"
// lists the addresses of the mesh.
//
// A proxy of ours says that it can be told on demand (see [OnDemand]). It then is
// not sent the listener of every address and the peers in one list, but the
// listeners ADDR_PORT and peers hasp.peers/ADDR whose names it subscribes to.
package xds

import (
	"fmt"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"hasp/mesh"
)

// Type URLs of the resources.
const (
	ListenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	ClusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	RouteType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	SecretType   = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	RuntimeType  = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
)

// Types are all of them in the order in which additions are to be sent: what is
// referred to before what refers to it, and last the one that seals the set.
var Types = []string{SecretType, ClusterType, EndpointType, ListenerType, RouteType, RuntimeType}

// Names of resources that every proxy has.
const (
	ProxyName = "hasp.proxy" // the Runtime
	PeersName = "hasp.peers" // the ClusterLoadAssignment
	// peerPrefix and an address name the ClusterLoadAssignment of one peer, for a
	// proxy that is told on demand.
	peerPrefix = PeersName + "/"

	inboundName     = "virtualInbound"
	outboundName    = "virtualOutbound"
	passthroughName = "PassthroughCluster"
	blackHoleName   = "BlackHoleCluster"
	inboundAnyName  = "InboundPassthroughCluster"
	inboundPrefix   = "inbound|"
)

// Ports of the two listeners, Istio's.
const (
	outboundPort = 15001
	inboundPort  = 15006
)

// Encode writes a configuration as resources. Equal configurations give equal
// bytes and so equal versions. It is an error when a part contradicts another
// (a listener to a cluster that is not there, two of one name) or has no form
// on the wire.
//
// The generation is not in it. Of the TLS settings of a cluster only those
// travel which its mode uses, and of the secrets only those a server names.
func Encode(c *mesh.ProxyConfig) (Resources, error) { return EncodeWith(c) }

// EncodeWith is Encode of a configuration that has, besides what is in c, parts that
// [EncodePart] made.
func EncodeWith(c *mesh.ProxyConfig, parts ...Resources) (Resources, error) {
	e := newEncoder(c)
	return e.run(e.secrets, e.clusterResources, e.peers, e.inbound, e.passthrough, e.listeners, e.gateway,
		func() error { return e.include(parts) }, e.proxy)
}

// EncodePart writes the clusters, the listeners of addresses and the peers of c and
// nothing else, for many proxies that are told on demand and agree about them. A
// listener's cluster may be in another part.
func EncodePart(c *mesh.ProxyConfig) (Resources, error) {
	e := newEncoder(c)
	e.clusters = nil
	return e.run(e.clusterResources, e.peerResources, e.listeners)
}

// EncodeShared writes the clusters, the listeners and the peers of c, for all proxies
// that are told whole and agree about them; [EncodeOwn] adds the rest.
func EncodeShared(c *mesh.ProxyConfig) (Resources, error) {
	e := newEncoder(c)
	return e.run(e.clusterResources, e.peers, e.listeners)
}

// EncodeOwn is Encode of a configuration of which shared is what EncodeShared made of
// it, or of one with the same clusters, listeners and peers.
func EncodeOwn(c *mesh.ProxyConfig, shared Resources) (Resources, error) {
	e := newEncoder(c)
	return e.run(e.secrets, e.inbound, e.passthrough, func() error { return e.include([]Resources{shared}) }, e.proxy)
}

func newEncoder(c *mesh.ProxyConfig) *encoder {
	return &encoder{c: c, out: Resources{}, clusters: map[string]bool{}}
}

func (e *encoder) run(steps ...func() error) (Resources, error) {
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, fmt.Errorf("xds: %w", err)
		}
	}
	return e.out, nil
}

// encoder holds what the steps of Encode share.
type encoder struct {
	c        *mesh.ProxyConfig
	out      Resources
	clusters map[string]bool // the names that may be referred to; nil: any
}

// include resources that were made before.
func (e *encoder) include(parts []Resources) error {
	for _, part := range parts {
		for kind, resources := range part {
			for name, res := range resources {
				if have, ok := e.out[kind][name]; ok && have.Version != res.Version {
					return fmt.Errorf("two of the name %s %q", short(kind), name)
				}
				e.out.Set(kind, name, res)
			}
		}
	}
	return nil
}

func (e *encoder) add(kind, name string, m message) error {
	if name == "" {
		return fmt.Errorf("a resource of type %s has no name", short(kind))
	}
	if _, ok := e.out[kind][name]; ok {
		return fmt.Errorf("two of the name %s %q", short(kind), name)
	}
	body, err := pack(m)
	if err != nil {
		return fmt.Errorf("%s %q: %w", short(kind), name, err)
	}
	e.out.Set(kind, name, Resource{Version: version(body), Body: body})
	return nil
}

// Decode reads a configuration from resources. It takes what Encode writes and
// refuses anything else by the resource's and the field's name: what a proxy
// would not act on it must not seem to have accepted. Messages are validated by
// Envoy's own rules. The generation is 0.
func Decode(r Resources) (*mesh.ProxyConfig, error) {
	if err := r.CheckSize(); err != nil {
		return nil, err
	}
	d := decoder{in: r, c: &mesh.ProxyConfig{}}
	for _, step := range []func() error{
		d.proxy, d.secrets, d.clusters, d.peers, d.listeners, d.references,
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("xds: %w", err)
		}
	}
	d.sort()
	return d.c, nil
}

// decoder holds what the steps of Decode share.
type decoder struct {
	in Resources
	c  *mesh.ProxyConfig
}

// get unpacks one resource, which must be there and bear its own name.
func get(r Resources, kind, name string, into message) error {
	res, ok := r[kind][name]
	if !ok {
		return fmt.Errorf("%s %q is not there", short(kind), name)
	}
	if err := unpack(res.Body, into); err != nil {
		return fmt.Errorf("%s %q: %w", short(kind), name, err)
	}
	if got := nameOf(into); got != name {
		return fmt.Errorf("%s %q: it calls itself %q", short(kind), name, got)
	}
	return nil
}

// nameOf is a resource's own name; only one type calls it otherwise.
func nameOf(m message) string {
	switch m := m.(type) {
	case interface{ GetName() string }:
		return m.GetName()
	case *endpointv3.ClusterLoadAssignment:
		return m.GetClusterName()
	}
	return ""
}
