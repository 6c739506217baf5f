// Package capture redirects a workload's TCP connections to its sidecar and
// tells the sidecar where they were going.
//
// A [Spec] says what to capture; [Spec.Rules] is the ruleset as a value that can
// be printed and compared; [Apply] makes it real in one network namespace, in
// one transaction, and may be asked twice. [OriginalDst] is the other end: the
// address a redirected connection was made to. UDP is left alone, so that DNS
// works.
package capture

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Table is the name of the nftables table, of family inet, that holds
// everything this package installs.
const Table = "hasp"

// Spec says which connections of one network namespace go to the sidecar.
//
// What is excluded is never captured. Of the rest a list that is nil captures
// everything, Istio's "*"; one that is there captures what it names, and
// nothing when it is empty, Istio's "".
type Spec struct {
	// OutboundPort is where connections that the workload makes are redirected
	// to (15001 in Istio), InboundPort those made to it (15006). Both are needed.
	OutboundPort, InboundPort uint16
	// ExemptUID and ExemptMark tell the sidecar's own connections, which are
	// left alone: those of sockets that a user owns, and those that carry a
	// mark (SO_MARK). 0 means no exemption of that kind; one of them is needed,
	// or the sidecar would be redirected to itself.
	ExemptUID, ExemptMark uint32
	// IncludeInboundPorts are Istio's annotation
	// traffic.sidecar.istio.io/includeInboundPorts.
	IncludeInboundPorts []uint16
	// ExcludeInboundPorts reach the workload past the sidecar: Istio's
	// annotation traffic.sidecar.istio.io/excludeInboundPorts, and the
	// sidecar's own ports for health and metrics.
	ExcludeInboundPorts []uint16
	// Doors are ports of the workload that are redirected to a port of their own
	// instead of InboundPort, if they are captured at all: where the sidecar
	// listens only while the workload does (mesh.ProbeDoor).
	Doors map[uint16]uint16
	// IncludeCIDRs are Istio's annotation
	// traffic.sidecar.istio.io/includeOutboundIPRanges.
	IncludeCIDRs []netip.Prefix
	// IncludeOutboundPorts are captured whatever IncludeCIDRs say of the
	// address: traffic.sidecar.istio.io/includeOutboundPorts. Here nil adds
	// nothing.
	IncludeOutboundPorts []uint16
	// ExcludeOutboundPorts and ExcludeCIDRs are reached past the sidecar:
	// traffic.sidecar.istio.io/excludeOutboundPorts and
	// excludeOutboundIPRanges.
	ExcludeOutboundPorts []uint16
	ExcludeCIDRs         []netip.Prefix
}

// validate refuses a Spec that could not work.
func (s Spec) validate() error {
	switch {
	case s.OutboundPort == 0 || s.InboundPort == 0:
		return errors.New("outbound and inbound port are needed")
	case s.OutboundPort == s.InboundPort:
		return errors.New("outbound and inbound port must differ")
	case s.ExemptUID == 0 && s.ExemptMark == 0:
		return errors.New("neither a user id nor a mark exempts the sidecar's own connections")
	}
	for port, door := range s.Doors {
		if port == 0 || door == 0 {
			return fmt.Errorf("port %d cannot have the door %d", port, door)
		}
	}
	for _, p := range s.IncludeCIDRs {
		if !p.IsValid() {
			return errors.New("an included address range is not valid")
		}
	}
	for _, p := range s.ExcludeCIDRs {
		if !p.IsValid() {
			return errors.New("an excluded address range is not valid")
		}
	}
	return nil
}

// Rules is the ruleset for the Spec, in the order in which the kernel asks it.
// Equal Specs, in whatever order their lists are, give equal rules.
func (s Spec) Rules() Rules { return append(s.output(), s.prerouting()...) }

func (s Spec) output() Rules {
	var r Rules
	rule := func(do Verdict, m ...Match) { r = append(r, Rule{Output, m, do}) }
	if s.ExemptUID != 0 {
		rule(Return(), Match{Field: SocketUID, Number: s.ExemptUID})
	}
	if s.ExemptMark != 0 {
		rule(Return(), Match{Field: Mark, Number: s.ExemptMark})
	}
	// What a workload says to itself on loopback is nobody else's business, and
	// the sidecar hands inbound connections to the workload that way.
	rule(Return(), Match{Field: OutInterface, Name: "lo"})
	for _, p := range sortedPrefixes(s.ExcludeCIDRs) {
		rule(Return(), Match{Field: DestinationNet, Net: p})
	}
	for _, p := range sortedPorts(s.ExcludeOutboundPorts) {
		rule(Return(), Match{Field: DestinationPort, Number: uint32(p)})
	}
	if s.IncludeCIDRs == nil {
		rule(Redirect(s.OutboundPort), Match{Field: TCP})
		return r
	}
	for _, p := range sortedPorts(s.IncludeOutboundPorts) {
		rule(Redirect(s.OutboundPort), Match{Field: DestinationPort, Number: uint32(p)})
	}
	for _, p := range sortedPrefixes(s.IncludeCIDRs) {
		rule(Redirect(s.OutboundPort), Match{Field: DestinationNet, Net: p}, Match{Field: TCP})
	}
	return r
}

func (s Spec) prerouting() Rules {
	var r Rules
	rule := func(do Verdict, m Match) { r = append(r, Rule{Prerouting, []Match{m}, do}) }
	rule(Return(), Match{Field: InInterface, Name: "lo"})
	for _, p := range sortedPorts(s.ExcludeInboundPorts) {
		rule(Return(), Match{Field: DestinationPort, Number: uint32(p)})
	}
	for _, p := range slices.Sorted(maps.Keys(s.Doors)) {
		if s.IncludeInboundPorts == nil || slices.Contains(s.IncludeInboundPorts, p) {
			rule(Redirect(s.Doors[p]), Match{Field: DestinationPort, Number: uint32(p)})
		}
	}
	if s.IncludeInboundPorts == nil {
		rule(Redirect(s.InboundPort), Match{Field: TCP})
	}
	for _, p := range sortedPorts(s.IncludeInboundPorts) {
		if s.Doors[p] == 0 {
			rule(Redirect(s.InboundPort), Match{Field: DestinationPort, Number: uint32(p)})
		}
	}
	return r
}

// String is the ruleset as nft writes it.
func (s Spec) String() string { return s.Rules().String() }

func sortedPorts(in []uint16) []uint16 {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

func sortedPrefixes(in []netip.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(in))
	for _, p := range in {
		// 10.1.2.3/8 means 10.0.0.0/8, and ::ffff:10.0.0.0/104 the same.
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		out = append(out, p.Masked())
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}
