package proxy

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"hasp/mesh"
	"hasp/policy/judge"
)

// settings is one mesh.ProxyConfig made ready for use: looked up by key, words
// turned into types. Nothing in it changes after newSettings, but counters.
type settings struct {
	config *mesh.ProxyConfig
	index  *judge.Index
	minTLS uint16

	clusters map[string]*cluster
	peers    map[netip.Addr]mesh.Peer
	names    map[netip.Addr]mesh.Peer // of endpoints that bear them, instead of peers
	gateway  map[uint16]*gatewaySettings

	directory Directory // nil: the configuration is whole
}

// cluster is where a connection goes.
type cluster struct {
	*judge.Cluster
	// v4 and v6 are the endpoints for who dialled an address of that family.
	v4, v6 []*mesh.Endpoint
	// turn counts the connections, for round robin.
	turn atomic.Uint32
	// tls holds an *upstreamTLS for each tlsKey, made when first needed.
	tls sync.Map
}

// newSettings converts a configuration. An error names the field that cannot
// be done; the proxy then keeps what it has.
func newSettings(c *mesh.ProxyConfig, id Identity, now func() time.Time) (*settings, error) {
	index, err := judge.New(c)
	if err != nil {
		return nil, err
	}
	s := &settings{
		config:   c,
		index:    index,
		clusters: make(map[string]*cluster, len(index.Clusters)),
		peers:    make(map[netip.Addr]mesh.Peer, len(c.Peers)),
		names:    map[netip.Addr]mesh.Peer{},
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
	for _, p := range c.Peers {
		s.peers[p.Addr.Unmap()] = p
	}
	for name, cl := range index.Clusters {
		s.clusters[name] = newCluster(cl)
		for _, e := range cl.Endpoints {
			if n, _ := mesh.NamesIn(e.Labels); n != (mesh.Names{}) {
				s.names[e.Addr.Unmap()] = mesh.Peer{Workload: e.Workload, Names: n}
			}
		}
	}
	if s.gateway, err = newGateway(id, now, c, s.clusters); err != nil {
		return nil, err
	}
	return s, nil
}

func newCluster(c *judge.Cluster) *cluster {
	return &cluster{Cluster: c, v4: family(c.Endpoints, true), v6: family(c.Endpoints, false)}
}

// route is the cluster for a destination, or nil when no service claims it.
func (s *settings) route(dst netip.AddrPort) *cluster {
	if c := s.index.Route(dst); c != nil {
		return s.clusters[c.Name]
	}
	return nil
}

// inboundPort is how the workload's port treats callers.
func (s *settings) inboundPort(port uint16) mesh.InboundPort { return s.index.InboundPort(port) }

// own tells whether an endpoint is the proxy's own workload: connections to it
// stay inside, where nobody terminates TLS.
func (s *settings) own(e *mesh.Endpoint) bool {
	return e.Workload != "" && e.Workload == s.config.Node
}
