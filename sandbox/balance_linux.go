package sandbox

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// table holds the fabric's ruleset.
var table = &nftables.Table{Family: nftables.TableFamilyINet, Name: "hasp-services"}

// balance makes b the fabric's ruleset, in one transaction. Connections that
// exist keep the pod they have.
func (f *fabric) balance(b Balance) error {
	f.balancing.Lock()
	defer f.balancing.Unlock()
	c, err := nftables.New(nftables.WithNetNSFd(int(f.ns)))
	if err != nil {
		return fmt.Errorf("sandbox: open netlink: %w", err)
	}
	c.AddTable(table) // what is not there cannot be deleted
	c.DelTable(table)
	c.AddTable(table)
	addDestinations(c, b)
	addHairpins(c, b)
	addRefusal(c)
	if err := c.Flush(); err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
			return &Missing{What: "spread connections to Services", Err: err, Fix: "sudo modprobe -a nf_tables nft_chain_nat nft_nat nft_numgen nft_reject_inet"}
		}
		return fmt.Errorf("sandbox: spread connections to Services: %w", err)
	}
	return nil
}

// addDestinations turns virtual addresses into pods'. Of n pods each gets the
// same share: the first is chosen with probability 1/n, the second, if the
// first was not, with 1/(n-1), and so on.
func addDestinations(c *nftables.Conn, b Balance) {
	chain := c.AddChain(&nftables.Chain{
		Name: "services", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
	})
	for _, v := range b {
		for i, to := range v.To {
			e := slices.Concat(family(v.Addr), addressIs(v.Addr, destination), protocolIs(v.Protocol), portIs(v.Port), oneIn(len(v.To)-i))
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(e, destinationNAT(to)...)})
		}
	}
}

// addHairpins lets a pod reach itself through a Service: it must not see a
// packet come from its own address, so that of hairpin takes its place.
func addHairpins(c *nftables.Conn, b Balance) {
	chain := c.AddChain(&nftables.Chain{
		Name: "hairpins", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	seen := map[netip.Addr]bool{}
	for _, v := range b {
		for _, to := range v.To {
			a := to.Addr()
			if seen[a] {
				continue
			}
			seen[a] = true
			e := slices.Concat(family(a), addressIs(a, source), addressIs(a, destination))
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(e, sourceNAT(a)...)})
		}
	}
}

// addRefusal answers for virtual addresses that nobody has and virtual ports
// that nobody serves: what is still addressed to one after addDestinations.
func addRefusal(c *nftables.Conn) {
	chain := c.AddChain(&nftables.Chain{
		Name: "nobody", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	for _, p := range []netip.Prefix{ServiceRange, ServiceRange6} {
		to := slices.Concat(family(p.Addr()), within(p))
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(slices.Concat(to, protocolIs(corev1.ProtocolTCP)),
			&expr.Reject{Type: unix.NFT_REJECT_TCP_RST})})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(to,
			&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH})})
	}
}

func equals(b []byte) *expr.Cmp { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b} }

func family(a netip.Addr) []expr.Any {
	proto := byte(unix.NFPROTO_IPV6)
	if a.Is4() {
		proto = unix.NFPROTO_IPV4
	}
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equals([]byte{proto})}
}

// end of a packet's way.
type end bool

const (
	source      end = false
	destination end = true
)

// load reads one of the two addresses of a packet of a's family.
func load(a netip.Addr, which end) *expr.Payload {
	size := uint32(a.BitLen() / 8)
	offset := uint32(8) // the source address in an IPv6 header
	if a.Is4() {
		offset = 12
	}
	if which == destination {
		offset += size
	}
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}
}

func addressIs(a netip.Addr, which end) []expr.Any {
	return []expr.Any{load(a, which), equals(a.AsSlice())}
}

func within(p netip.Prefix) []expr.Any {
	size := p.Addr().BitLen() / 8
	return []expr.Any{
		load(p.Addr(), destination),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size), Mask: ipNet(p).Mask, Xor: make([]byte, size)},
		equals(p.Addr().AsSlice()),
	}
}

func protocolIs(p corev1.Protocol) []expr.Any {
	number := byte(unix.IPPROTO_TCP)
	if p == corev1.ProtocolUDP {
		number = unix.IPPROTO_UDP
	}
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equals([]byte{number})}
}

func portIs(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		equals(binaryutil.BigEndian.PutUint16(port)),
	}
}

// oneIn matches one packet in n, at random.
func oneIn(n int) []expr.Any {
	if n <= 1 {
		return nil
	}
	return []expr.Any{
		&expr.Numgen{Register: 1, Modulus: uint32(n), Type: unix.NFT_NG_RANDOM},
		equals(binaryutil.NativeEndian.PutUint32(0)),
	}
}

// sourceNAT gives packets of an address's family the address of hairpin.
func sourceNAT(of netip.Addr) []expr.Any {
	proto, to := uint32(unix.NFPROTO_IPV6), hairpin.v6()
	if of.Is4() {
		proto, to = unix.NFPROTO_IPV4, hairpin.v4()
	}
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: proto, RegAddrMin: 1},
	}
}

func destinationNAT(to netip.AddrPort) []expr.Any {
	proto := uint32(unix.NFPROTO_IPV6)
	if to.Addr().Is4() {
		proto = unix.NFPROTO_IPV4
	}
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(to.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: proto, RegAddrMin: 1, RegProtoMin: 2},
	}
}
