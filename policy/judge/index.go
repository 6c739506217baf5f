package judge

import (
	"fmt"
	"net/netip"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/mesh"
)

// Index is one mesh.ProxyConfig made ready to be asked. Nothing in it changes
// after New.
type Index struct {
	Config      *mesh.ProxyConfig
	TrustDomain spiffeid.TrustDomain
	Clusters    map[string]*Cluster // by name

	ports     map[uint16]mesh.InboundPort
	listeners map[netip.AddrPort]*Cluster
	anyAddr   map[uint16]*Cluster // listeners without an address
}

// Cluster is where a connection goes.
type Cluster struct {
	mesh.Cluster
	// IDs the server must present one of; none leaves it to the endpoint's own.
	IDs []spiffeid.ID
}

// New indexes a configuration, which must not change any more. An error names
// the field that cannot be done: a proxy then keeps the configuration it has.
func New(c *mesh.ProxyConfig) (*Index, error) {
	td, err := spiffeid.TrustDomainFromString(c.TrustDomain)
	if err != nil {
		return nil, fmt.Errorf("trustDomain %q: %w", c.TrustDomain, err)
	}
	x := &Index{
		Config:      c,
		TrustDomain: td,
		ports:       portsOf(c),
		listeners:   make(map[netip.AddrPort]*Cluster, len(c.Outbound.Listeners)),
		anyAddr:     make(map[uint16]*Cluster),
		Clusters:    make(map[string]*Cluster, len(c.Outbound.Clusters)),
	}
	for i := range c.Outbound.Clusters {
		cl, err := NewCluster(&c.Outbound.Clusters[i])
		if err != nil {
			return nil, fmt.Errorf("cluster %s: %w", c.Outbound.Clusters[i].Name, err)
		}
		if x.Clusters[cl.Name] != nil {
			return nil, fmt.Errorf("cluster %s: given twice", cl.Name)
		}
		x.Clusters[cl.Name] = cl
	}
	for _, l := range c.Outbound.Listeners {
		cl := x.Clusters[l.Cluster]
		if cl == nil {
			return nil, fmt.Errorf("listener %s:%d: no cluster %q", l.Addr, l.Port, l.Cluster)
		}
		if l.Addr.IsValid() {
			x.listeners[netip.AddrPortFrom(l.Addr.Unmap(), l.Port)] = cl
		} else {
			x.anyAddr[l.Port] = cl
		}
	}
	return x, nil
}

// Beside is the index of another proxy's configuration with the same Outbound
// and trust domain, which the two then share: what many proxies have in common
// is indexed once.
func (x *Index) Beside(c *mesh.ProxyConfig) *Index {
	other := *x
	other.Config, other.ports = c, portsOf(c)
	return &other
}

func portsOf(c *mesh.ProxyConfig) map[uint16]mesh.InboundPort {
	ports := make(map[uint16]mesh.InboundPort, len(c.Inbound.Ports))
	for _, p := range c.Inbound.Ports {
		ports[p.Port] = p
	}
	return ports
}

// NewCluster turns the words of a cluster into types.
func NewCluster(c *mesh.Cluster) (*Cluster, error) {
	cl := &Cluster{Cluster: *c}
	switch c.TLS.Mode {
	case mesh.ClientUnset, mesh.ClientDisable, mesh.ClientSimple, mesh.ClientMutual, mesh.ClientIstioMutual:
	default:
		return nil, fmt.Errorf("tls.mode %q: unknown", c.TLS.Mode)
	}
	if !cl.MeshTLS() {
		return cl, nil
	}
	for _, san := range c.TLS.SubjectAltNames {
		id, err := spiffeid.FromString(san)
		if err != nil {
			return nil, fmt.Errorf("tls.subjectAltNames %q: %w", san, err)
		}
		cl.IDs = append(cl.IDs, id)
	}
	return cl, nil
}

// MeshTLS tells whether TLS to the cluster, if spoken, is with the mesh's own
// certificates.
func (c *Cluster) MeshTLS() bool {
	return c.TLS.Mode == mesh.ClientIstioMutual || c.TLS.Mode == mesh.ClientUnset && c.TLS.Auto
}

// Route is the cluster for a destination, or nil when no service claims it.
func (x *Index) Route(dst netip.AddrPort) *Cluster {
	if c := x.listeners[dst]; c != nil {
		return c
	}
	return x.anyAddr[dst.Port()]
}

// InboundPort is how the workload's port treats callers.
func (x *Index) InboundPort(port uint16) mesh.InboundPort {
	if p, ok := x.ports[port]; ok {
		return p
	}
	p := x.Config.Inbound.Default
	p.Port = port
	return p
}
