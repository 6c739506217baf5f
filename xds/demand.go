package xds

import (
	"net/netip"
	"strconv"
	"strings"

	"hasp/mesh"
)

// OnDemand is the client feature (Node.client_features) of a proxy that can be told
// on demand. Its first two requests of a stream are for listeners and for
// ClusterLoadAssignments, with the wildcard and the names of all it has asked for,
// before it is sent anything.
const OnDemand = "hasp.on-demand"

// ServiceName is the listener of an address.
func ServiceName(a netip.AddrPort) string { return listenerName(a.Addr(), a.Port()) }

// PeerName is the ClusterLoadAssignment of one peer.
func PeerName(a netip.Addr) string { return peerPrefix + a.String() }

// Ask adds to a demand what names of a type ask for, and reports whether any does;
// others name what everybody has.
func Ask(d *mesh.Demand, kind string, names []string) (any bool) {
	for _, name := range names {
		switch kind {
		case ListenerType:
			if a, ok := serviceNamed(name); ok {
				if d.Services == nil {
					d.Services = map[netip.AddrPort]bool{}
				}
				d.Services[a], any = true, true
			}
		case EndpointType:
			if a, ok := peerNamed(name); ok {
				if d.Peers == nil {
					d.Peers = map[netip.Addr]bool{}
				}
				d.Peers[a], any = true, true
			}
		}
	}
	return any
}

// Unask is the reverse of Ask.
func Unask(d *mesh.Demand, kind string, names []string) (any bool) {
	for _, name := range names {
		switch kind {
		case ListenerType:
			if a, ok := serviceNamed(name); ok && d.Services[a] {
				delete(d.Services, a)
				any = true
			}
		case EndpointType:
			if a, ok := peerNamed(name); ok && d.Peers[a] {
				delete(d.Peers, a)
				any = true
			}
		}
	}
	return any
}

// serviceNamed is the reverse of ServiceName, for names that it makes: a name in
// another form is nobody's.
func serviceNamed(name string) (netip.AddrPort, bool) {
	i := strings.LastIndexByte(name, '_')
	if i < 0 {
		return netip.AddrPort{}, false
	}
	addr, ok := plainAddress(name[:i])
	port, err := strconv.ParseUint(name[i+1:], 10, 16)
	a := netip.AddrPortFrom(addr, uint16(port))
	return a, ok && err == nil && !addr.IsUnspecified() && ServiceName(a) == name
}

func peerNamed(name string) (netip.Addr, bool) {
	text, ok := strings.CutPrefix(name, peerPrefix)
	if !ok {
		return netip.Addr{}, false
	}
	return plainAddress(text)
}

func plainAddress(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	return a, err == nil && a.Zone() == "" && a == a.Unmap() && a.String() == text
}
