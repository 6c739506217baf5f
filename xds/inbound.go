package xds

import (
	"cmp"
	"fmt"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"hasp/mesh"
)

// portMeta is our part of a filter chain's metadata: the word of the mode,
// since two words can have one shape, and who decided.
type portMeta struct {
	Mode     mesh.Mode     `json:"mode,omitempty"`
	Origin   mesh.Origin   `json:"origin,omitzero"`
	Protocol mesh.Protocol `json:"protocol,omitempty"`
	Service  string        `json:"service,omitempty"`
}

// Transport protocols as Envoy's tls_inspector tells them.
const (
	transportTLS = "tls"
	transportRaw = "raw_buffer"
)

// chainKind is one of the filter chains a port can have.
type chainKind struct {
	suffix    string // of the chain's name
	transport string // matched; empty matches any
	alpn      string // matched
	tls       bool   // the proxy terminates it, a client certificate is required
}

var (
	chainMTLS = chainKind{suffix: "mtls", transport: transportTLS, tls: true}
	// chainIstio is mTLS among other things: only who says so in the ALPN.
	chainIstio = chainKind{suffix: "mtls", transport: transportTLS, alpn: alpnIstio, tls: true}
	// chainPassed is the application's own TLS, passed on as it is.
	chainPassed = chainKind{suffix: "tls", transport: transportTLS}
	chainPlain  = chainKind{suffix: "plain", transport: transportRaw}
	chainAny    = chainKind{suffix: "any"}
)

// chainsOf a mode. What is not known is STRICT, as package mesh says.
func chainsOf(m mesh.Mode) []chainKind {
	switch m {
	case mesh.ModeDisable:
		return []chainKind{chainAny}
	case mesh.ModePermissive, mesh.ModeUnset:
		return []chainKind{chainIstio, chainPassed, chainPlain}
	}
	return []chainKind{chainMTLS}
}

// inbound makes the listener virtualInbound and the clusters behind it. A
// gateway that is given none has none.
func (e *encoder) inbound() error {
	in := e.c.Inbound
	if e.c.Role == mesh.RoleGateway && in.Default == (mesh.InboundPort{}) && len(in.Ports) == 0 && in.Authorization.IsZero() {
		return nil
	}
	if in.Default.Port != 0 {
		return fmt.Errorf("inbound: the default is for port %d, want 0", in.Default.Port)
	}
	l := &listenerv3.Listener{
		Name: inboundName, Address: socketAddress("0.0.0.0", inboundPort), TrafficDirection: corev3.TrafficDirection_INBOUND,
		AdditionalAddresses: []*listenerv3.AdditionalAddress{{Address: socketAddress("::", inboundPort)}},
		UseOriginalDst:      wrapperspb.Bool(true),
	}
	var err error
	if l.ListenerFilters, err = listenerFilters(origDstFilter, inspectFilter); err != nil {
		return err
	}
	if l.Metadata, err = metadata(map[string]any{haspKey: listenerMeta{in.Authorization}}); err != nil {
		return err
	}
	guards, err := rbac(in.Authorization)
	if err != nil {
		return err
	}
	for _, p := range append(slices.Clone(in.Ports), in.Default) {
		cluster := inboundCluster(p.Port)
		if err := e.add(ClusterType, cluster, e.originalDst(cluster, true)); err != nil {
			return err
		}
		chains, err := e.portChains(p, cluster, guards)
		if err != nil {
			return fmt.Errorf("inbound port %d: %w", p.Port, err)
		}
		l.FilterChains = append(l.FilterChains, chains...)
	}
	return e.add(ListenerType, inboundName, l)
}

func inboundCluster(port uint16) string {
	if port == 0 {
		return inboundAnyName
	}
	return fmt.Sprintf("%s%d||", inboundPrefix, port)
}

func (e *encoder) portChains(p mesh.InboundPort, cluster string, guards []*listenerv3.Filter) ([]*listenerv3.FilterChain, error) {
	md, err := metadata(map[string]any{haspKey: portMeta{p.Mode, p.Origin, p.Protocol, p.Service}})
	if err != nil {
		return nil, err
	}
	filter, err := e.tcpProxy(cluster)
	if err != nil {
		return nil, err
	}
	var out []*listenerv3.FilterChain
	for _, kind := range chainsOf(p.Mode) {
		fc := &listenerv3.FilterChain{Name: chainName(p.Port, kind), FilterChainMatch: kind.match(p.Port), Filters: append(slices.Clone(guards), filter), Metadata: md}
		if kind.tls {
			fc.TransportSocket, err = downstream(tlsShape{cert: ownCert, roots: meshRoots, alpn: []string{alpnIstio}}, e.c.MinTLS, true)
			if err != nil {
				return nil, err
			}
		}
		out = append(out, fc)
	}
	return out, nil
}

func chainName(port uint16, k chainKind) string {
	if port == 0 {
		return inboundName + "-catchall-" + k.suffix
	}
	return fmt.Sprintf("0.0.0.0_%d-%s", port, k.suffix)
}

func (k chainKind) match(port uint16) *listenerv3.FilterChainMatch {
	m := &listenerv3.FilterChainMatch{TransportProtocol: k.transport}
	if port != 0 {
		m.DestinationPort = wrapperspb.UInt32(uint32(port))
	}
	if k.alpn != "" {
		m.ApplicationProtocols = []string{k.alpn}
	}
	return m
}

// readInbound is the reverse of inbound.
func (d *decoder) readInbound(l *listenerv3.Listener) error {
	if err := only(l, "name", "address", "additional_addresses", "traffic_direction", "use_original_dst", "listener_filters", "filter_chains", "metadata"); err != nil {
		return err
	}
	if host, port, err := readAddress(l.GetAddress()); err != nil || host != "0.0.0.0" || port != inboundPort {
		return fmt.Errorf("address: only 0.0.0.0:%d is supported", inboundPort)
	}
	var meta listenerMeta
	if err := readMetadata(l.GetMetadata(), map[string]any{haspKey: &meta}); err != nil {
		return err
	}
	d.c.Inbound.Authorization = meta.Authorization
	ports := map[uint16]*mesh.InboundPort{}
	kinds := map[uint16][]chainKind{}
	for i, fc := range l.GetFilterChains() {
		p, kind, err := d.readPortChain(fc)
		if err != nil {
			return fmt.Errorf("filter_chains[%d]: %w", i, err)
		}
		if have := ports[p.Port]; have != nil && *have != p {
			return fmt.Errorf("filter_chains[%d]: metadata differs from that of another chain for port %d", i, p.Port)
		}
		ports[p.Port] = &p
		kinds[p.Port] = append(kinds[p.Port], kind)
	}
	if ports[0] == nil {
		return fmt.Errorf("filter_chains: none is for the ports that are not listed")
	}
	for port, p := range ports {
		if !sameKinds(kinds[port], chainsOf(p.Mode)) {
			return fmt.Errorf("filter_chains: those of port %d are not those of mode %q", port, p.Mode)
		}
		if port == 0 {
			d.c.Inbound.Default = *p
		} else {
			d.c.Inbound.Ports = append(d.c.Inbound.Ports, *p)
		}
	}
	slices.SortFunc(d.c.Inbound.Ports, func(a, b mesh.InboundPort) int { return cmp.Compare(a.Port, b.Port) })
	return nil
}

func sameKinds(a, b []chainKind) bool {
	order := func(x, y chainKind) int { return cmp.Compare(x.suffix, y.suffix) }
	a, b = slices.SortedFunc(slices.Values(a), order), slices.SortedFunc(slices.Values(b), order)
	return slices.Equal(a, b)
}

func (d *decoder) readPortChain(fc *listenerv3.FilterChain) (p mesh.InboundPort, kind chainKind, err error) {
	if err := only(fc, "name", "filter_chain_match", "filters", "transport_socket", "metadata"); err != nil {
		return p, kind, err
	}
	m := fc.GetFilterChainMatch()
	if err := only(m, "destination_port", "transport_protocol", "application_protocols"); err != nil {
		return p, kind, fmt.Errorf("filter_chain_match: %w", err)
	}
	p.Port = uint16(m.GetDestinationPort().GetValue()) // validated to be at most 65535
	if kind, err = readKind(fc); err != nil {
		return p, kind, err
	}
	filters, err := readRBAC(fc.GetFilters(), d.c.Inbound.Authorization)
	if err != nil {
		return p, kind, err
	}
	cluster, err := d.readTCPProxy(filters)
	if err != nil {
		return p, kind, err
	}
	if want := inboundCluster(p.Port); cluster != want {
		return p, kind, fmt.Errorf("filters: cluster %q is not supported, %q is", cluster, want)
	}
	var meta portMeta
	if err := readMetadata(fc.GetMetadata(), map[string]any{haspKey: &meta}); err != nil {
		return p, kind, err
	}
	p.Mode, p.Origin, p.Protocol, p.Service = meta.Mode, meta.Origin, meta.Protocol, meta.Service
	return p, kind, nil
}

// readKind finds which of the chains we know this is.
func readKind(fc *listenerv3.FilterChain) (chainKind, error) {
	m, ts := fc.GetFilterChainMatch(), fc.GetTransportSocket()
	for _, k := range []chainKind{chainMTLS, chainIstio, chainPassed, chainPlain, chainAny} {
		want := k.match(0)
		if k.tls != (ts != nil) || m.GetTransportProtocol() != want.GetTransportProtocol() || !slices.Equal(m.GetApplicationProtocols(), want.GetApplicationProtocols()) {
			continue
		}
		if !k.tls {
			return k, nil
		}
		s, required, err := readDownstream(ts)
		if err != nil {
			return k, fmt.Errorf("transport_socket: %w", err)
		}
		if !required || s.cert != ownCert || s.roots != meshRoots || s.sans != nil {
			return k, fmt.Errorf("transport_socket: only secrets %q and %q with require_client_certificate are supported", ownCert, meshRoots)
		}
		return k, nil
	}
	return chainKind{}, fmt.Errorf("filter_chain_match: transport_protocol %q with application_protocols %q and transport_socket %q is not supported",
		m.GetTransportProtocol(), m.GetApplicationProtocols(), ts.GetName())
}
