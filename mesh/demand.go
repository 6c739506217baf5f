package mesh

import "net/netip"

// Demand is what a proxy asks to be told about, of a mesh that is too large to be
// told whole: the addresses that its workload connects to, and those of whoever
// connects to it. Addresses are unmapped.
type Demand struct {
	Services map[netip.AddrPort]bool
	Peers    map[netip.Addr]bool
}
