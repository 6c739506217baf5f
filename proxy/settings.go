package proxy

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/mesh"
)

// settings is one mesh.ProxyConfig made ready for use: looked up by key, words
// turned into types. Nothing in it changes after newSettings, but counters.
type settings struct {
	config      *mesh.ProxyConfig
	trustDomain spiffeid.TrustDomain
	minTLS      uint16

	ports     map[uint16]mesh.InboundPort
	listeners map[netip.AddrPort]*cluster
	anyAddr   map[uint16]*cluster // listeners without an address
	clusters  map[string]*cluster
	peers     map[netip.Addr]mesh.Peer
	gateway   map[uint16]*gatewaySettings
}

// cluster is where a connection goes.
type cluster struct {
	mesh.Cluster
	// ids the server must present one of; none leaves it to the endpoint's own.
	ids []spiffeid.ID
	// v4 and v6 are the endpoints for who dialled an address of that family.
	v4, v6 []*mesh.Endpoint
	// turn counts the connections, for round robin.
	turn atomic.Uint32
	// tls holds an *upstreamTLS for each identity, made when first needed.
	tls sync.Map
}

// newSettings converts a configuration. An error names the field that cannot
// be done; the proxy then keeps what it has.
func newSettings(c *mesh.ProxyConfig, id Identity, now func() time.Time) (*settings, error) {
	td, err := spiffeid.TrustDomainFromString(c.TrustDomain)
	if err != nil {
		return nil, fmt.Errorf("trustDomain %q: %w", c.TrustDomain, err)
	}
	s := &settings{
		config:      c,
		trustDomain: td,
		ports:       make(map[uint16]mesh.InboundPort, len(c.Inbound.Ports)),
		listeners:   make(map[netip.AddrPort]*cluster, len(c.Outbound.Listeners)),
		anyAddr:     make(map[uint16]*cluster),
		clusters:    make(map[string]*cluster, len(c.Outbound.Clusters)),
		peers:       make(map[netip.Addr]mesh.Peer, len(c.Peers)),
	}
	switch c.MinTLS {
	case "", "1.3":
		s.minTLS = tls.VersionTLS13
	case "1.2":
		s.minTLS = tls.VersionTLS12
	default:
		return nil, fmt.Errorf("minTLS %q: known are 1.2 and 1.3", c.MinTLS)
	}
	if !c.Settings.AccessLog.Known() {
		return nil, fmt.Errorf("settings.accessLog %q: known are %s, %s and %s", c.Settings.AccessLog, mesh.LogOff, mesh.LogText, mesh.LogJSON)
	}
	for _, p := range c.Inbound.Ports {
		s.ports[p.Port] = p
	}
	for _, p := range c.Peers {
		s.peers[p.Addr.Unmap()] = p
	}
	for i := range c.Outbound.Clusters {
		cl, err := newCluster(&c.Outbound.Clusters[i])
		if err != nil {
			return nil, fmt.Errorf("cluster %s: %w", c.Outbound.Clusters[i].Name, err)
		}
		if s.clusters[cl.Name] != nil {
			return nil, fmt.Errorf("cluster %s: given twice", cl.Name)
		}
		s.clusters[cl.Name] = cl
	}
	for _, l := range c.Outbound.Listeners {
		cl := s.clusters[l.Cluster]
		if cl == nil {
			return nil, fmt.Errorf("listener %s:%d: no cluster %q", l.Addr, l.Port, l.Cluster)
		}
		if l.Addr.IsValid() {
			s.listeners[netip.AddrPortFrom(l.Addr.Unmap(), l.Port)] = cl
		} else {
			s.anyAddr[l.Port] = cl
		}
	}
	if s.gateway, err = newGateway(id, now, c, s.clusters); err != nil {
		return nil, err
	}
	return s, nil
}

func newCluster(c *mesh.Cluster) (*cluster, error) {
	cl := &cluster{Cluster: *c, v4: family(c.Endpoints, true), v6: family(c.Endpoints, false)}
	switch c.TLS.Mode {
	case mesh.ClientUnset, mesh.ClientDisable, mesh.ClientSimple, mesh.ClientMutual, mesh.ClientIstioMutual:
	default:
		return nil, fmt.Errorf("tls.mode %q: unknown", c.TLS.Mode)
	}
	if !cl.meshTLS() {
		return cl, nil
	}
	for _, san := range c.TLS.SubjectAltNames {
		id, err := spiffeid.FromString(san)
		if err != nil {
			return nil, fmt.Errorf("tls.subjectAltNames %q: %w", san, err)
		}
		cl.ids = append(cl.ids, id)
	}
	return cl, nil
}

// meshTLS tells whether TLS to the cluster, if spoken, is with the mesh's own
// certificates.
func (c *cluster) meshTLS() bool {
	return c.TLS.Mode == mesh.ClientIstioMutual || c.TLS.Mode == mesh.ClientUnset && c.TLS.Auto
}

// route is the cluster for a destination, or nil when no service claims it.
func (s *settings) route(dst netip.AddrPort) *cluster {
	if c := s.listeners[dst]; c != nil {
		return c
	}
	return s.anyAddr[dst.Port()]
}

// inboundPort is how the workload's port treats callers.
func (s *settings) inboundPort(port uint16) mesh.InboundPort {
	if p, ok := s.ports[port]; ok {
		return p
	}
	p := s.config.Inbound.Default
	p.Port = port
	return p
}

// own tells whether an endpoint is the proxy's own workload: connections to it
// stay inside, where nobody terminates TLS.
func (s *settings) own(e *mesh.Endpoint) bool {
	return e.Workload != "" && e.Workload == s.config.Node
}
