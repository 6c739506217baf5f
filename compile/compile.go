// Package compile turns a World into the configuration of one proxy ([For]) or
// of as many as ask ([Compiler]). It is pure: the same World and workload always
// give the same value, so that a proxy is sent only what really changed. It asks
// package policy for every decision and makes none itself.
package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"hasp/api"
	"hasp/mesh"
	"hasp/policy"
	"hasp/world"
)

// Diagnostic is something a configuration asks for that the proxy cannot be
// told; the rest of the configuration stands.
type Diagnostic struct {
	Object  mesh.Origin `json:"object"`
	Message string      `json:"message"`
}

func (d Diagnostic) String() string { return fmt.Sprintf("%s: %s", d.Object, d.Message) }

// Compiler compiles the proxies of one World. What many of them have in common
// it computes once, so that a thousand cost little more than one for each
// namespace. Several goroutines may use it.
type Compiler struct {
	w     *world.World
	peers func() []mesh.Peer

	mu       sync.Mutex
	outbound map[string]mesh.Outbound // by audience
	parts    *kept
	places   func() *places
}

// New is a compiler of a World, which must not change any more.
func New(w *world.World) *Compiler {
	return &Compiler{
		w: w, outbound: map[string]mesh.Outbound{}, peers: sync.OnceValue(func() []mesh.Peer { return peers(w) }),
		parts: newKept(), places: sync.OnceValue(func() *places { return newPlaces(w) }),
	}
}

// For is the configuration of the proxy beside (or, for a gateway, that is) the
// workload, as one of many: parts of it are shared and must not be changed.
func (c *Compiler) For(wl *mesh.Workload) (*mesh.ProxyConfig, []Diagnostic) {
	cfg := c.own(wl)
	if wl.Role == mesh.RoleGateway {
		return cfg, gateway(c.w, wl, cfg)
	}
	cfg.Inbound = inbound(c.w, wl)
	cfg.Outbound = c.outboundOf(wl)
	cfg.Peers = c.peers()
	return cfg, nil
}

// own is what a configuration says of the proxy itself.
func (c *Compiler) own(wl *mesh.Workload) *mesh.ProxyConfig {
	w := c.w
	return &mesh.ProxyConfig{
		Generation:  w.Generation,
		Node:        wl.Key(),
		Identity:    wl.Identity(w.Mesh.TrustDomain),
		TrustDomain: w.Mesh.TrustDomain,
		Role:        wl.Role,
		Names:       wl.Names(),
		MinTLS:      w.Mesh.MinTLS,
		Settings:    settings(w.Mesh),
	}
}

// audience of a workload: all of one are told the same about every service.
func (c *Compiler) audience(wl *mesh.Workload) string {
	return strings.Join(append(policy.RulesSelecting(c.w, wl), wl.Namespace, string(wl.Role)), " ")
}

// outboundOf is what the workload's audience may call and how.
func (c *Compiler) outboundOf(wl *mesh.Workload) mesh.Outbound {
	audience := c.audience(wl)
	c.mu.Lock()
	defer c.mu.Unlock()
	out, known := c.outbound[audience]
	if !known {
		out = outbound(c.w, wl)
		c.outbound[audience] = out
	}
	return out
}

// For is [Compiler.For] for a single proxy.
func For(w *world.World, wl *mesh.Workload) (*mesh.ProxyConfig, []Diagnostic) {
	return New(w).For(wl)
}

// settings are those that are the same for every proxy.
func settings(m *api.MeshConfig) mesh.Settings {
	s := mesh.Settings{
		AccessLog:              mesh.LogText,
		ConnectTimeoutMillis:   m.ConnectTimeoutMillis,
		DrainMillis:            m.DrainMillis,
		TerminationDrainMillis: m.TerminationDrainMillis,
		IdleMillis:             m.IdleMillis,
		NoTrunks:               m.NoTrunks,
	}
	switch {
	case m.AccessLogFile == "":
		s.AccessLog = mesh.LogOff
	case m.AccessLogEncoding == "JSON":
		s.AccessLog = mesh.LogJSON
	}
	return s
}

// inbound lists every port that an object or a service can speak of; all others
// follow the default.
func inbound(w *world.World, wl *mesh.Workload) mesh.Inbound {
	ports := map[uint16]mesh.InboundPort{}
	for _, p := range wl.Ports {
		ports[p.Number] = mesh.InboundPort{Port: p.Number, Protocol: mesh.TCP}
	}
	for _, s := range w.ServicesOf(wl) {
		for _, sp := range s.Ports {
			n, ok := sp.On(wl)
			if ok && ports[n].Service == "" {
				ports[n] = mesh.InboundPort{Port: n, Service: s.Hostname, Protocol: sp.Protocol}
			}
		}
	}
	for _, s := range w.ServicesLeadingTo(wl) {
		for _, e := range s.Endpoints {
			if e.Workload == wl.Key() && ports[e.Port].Service == "" {
				ports[e.Port] = mesh.InboundPort{Port: e.Port, Service: s.Hostname, Protocol: protocolOf(s, e.ServicePort)}
			}
		}
	}
	for _, pa := range w.PeerAuthentications {
		if pa.Namespace != wl.Namespace {
			continue
		}
		for port := range pa.Spec.PortLevelMtls {
			n := uint16(port)
			if _, known := ports[n]; !known {
				ports[n] = mesh.InboundPort{Port: n, Protocol: mesh.TCP}
			}
		}
	}
	in := mesh.Inbound{Default: decide(w, wl, mesh.InboundPort{Protocol: mesh.TCP})}
	for _, p := range ports {
		in.Ports = append(in.Ports, decide(w, wl, p))
	}
	in.Authorization = policy.Authorization(w, wl)
	slices.SortFunc(in.Ports, func(a, b mesh.InboundPort) int { return cmp.Compare(a.Port, b.Port) })
	return in
}

func decide(w *world.World, wl *mesh.Workload, p mesh.InboundPort) mesh.InboundPort {
	s := policy.ServerMode(w, wl, p.Port)
	p.Mode, p.Origin = s.Mode, s.Origin
	return p
}

func protocolOf(s *mesh.Service, port uint16) mesh.Protocol {
	for _, p := range s.Ports {
		if p.Number == port {
			return p.Protocol
		}
	}
	return mesh.TCP
}

// peers are all addresses of workloads, by address. Those without a sidecar are
// there too: they name an unmeshed caller in the log. A node's address is not:
// it may be the kubelet's, a node port's or that of any pod on its network.
func peers(w *world.World) []mesh.Peer {
	var out []mesh.Peer
	for _, wl := range w.Workloads {
		if wl.HostNetwork {
			continue
		}
		for _, a := range wl.Addresses {
			out = append(out, peer(w, wl, a))
		}
	}
	slices.SortStableFunc(out, func(a, b mesh.Peer) int { return a.Addr.Compare(b.Addr) })
	return slices.CompactFunc(out, func(a, b mesh.Peer) bool { return a.Addr == b.Addr })
}

// peer is one address of a workload.
func peer(w *world.World, wl *mesh.Workload, a netip.Addr) mesh.Peer {
	p := mesh.Peer{Addr: a, Workload: wl.Key(), Sidecar: wl.Role != mesh.RoleNone, Names: wl.Names()}
	if p.Sidecar {
		p.Identity = wl.Identity(w.Mesh.TrustDomain)
	}
	return p
}

// clusterName is Istio's: outbound|PORT|SUBSET|HOST.
func clusterName(host string, port uint16, subset string) string {
	return fmt.Sprintf("outbound|%d|%s|%s", port, subset, host)
}

// qualify resolves a short host in the namespace of the object that names it.
func qualify(host, namespace string) string {
	if host == "" || strings.Contains(host, ".") {
		return host
	}
	return host + "." + namespace + ".svc." + api.DomainSuffix
}
