package capture

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Apply makes the ruleset of the Spec the one and only content of the table
// "hasp" in the network namespace that the file descriptor ns refers to (-1:
// the caller's own). It replaces what was there in one transaction: connections
// see the old ruleset or the new one, never a mixture and never none. It needs
// CAP_NET_ADMIN over that namespace.
func Apply(ns int, s Spec) error {
	if err := s.validate(); err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	c, err := connect(ns)
	if err != nil {
		return err
	}
	t := clear(c)
	c.AddTable(t)
	chains := map[Chain]*nftables.Chain{
		Output:     natChain(c, t, Output, nftables.ChainHookOutput),
		Prerouting: natChain(c, t, Prerouting, nftables.ChainHookPrerouting),
	}
	for _, r := range s.Rules() {
		c.AddRule(&nftables.Rule{Table: t, Chain: chains[r.Chain], Exprs: r.exprs()})
	}
	return flush(c, "apply the ruleset")
}

// Remove takes the table out of the namespace. A table that is not there is no
// error.
func Remove(ns int) error {
	c, err := connect(ns)
	if err != nil {
		return err
	}
	clear(c)
	return flush(c, "remove the ruleset")
}

func connect(ns int) (*nftables.Conn, error) {
	var opts []nftables.ConnOption
	if ns >= 0 {
		opts = append(opts, nftables.WithNetNSFd(ns))
	}
	c, err := nftables.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("capture: open netlink: %w", err)
	}
	return c, nil
}

// clear deletes the table, which is added first because deleting what is not
// there fails.
func clear(c *nftables.Conn) *nftables.Table {
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: Table})
	c.DelTable(t)
	return t
}

func natChain(c *nftables.Conn, t *nftables.Table, name Chain, hook *nftables.ChainHook) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return c.AddChain(&nftables.Chain{
		Name: string(name), Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: hook, Priority: nftables.ChainPriorityNATDest, Policy: &accept,
	})
}

func flush(c *nftables.Conn, doing string) error {
	err := c.Flush()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("capture: %s: %w (CAP_NET_ADMIN over the network namespace is needed)", doing, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("capture: %s: %w (the kernel lacks nf_tables or its nat chains: modprobe nf_tables nft_chain_nat nft_redir)", doing, err)
	}
	return fmt.Errorf("capture: %s: %w", doing, err)
}

// exprs is the rule in the kernel's terms.
func (r Rule) exprs() []expr.Any {
	var out []expr.Any
	for _, m := range r.Match {
		out = append(out, m.exprs()...)
	}
	out = append(out, &expr.Counter{})
	if r.Do.RedirectTo == 0 {
		return append(out, &expr.Verdict{Kind: expr.VerdictReturn})
	}
	return append(out,
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(r.Do.RedirectTo)},
		&expr.Redir{RegisterProtoMin: 1})
}

func (m Match) exprs() []expr.Any {
	switch m.Field {
	case SocketUID:
		return meta(expr.MetaKeySKUID, binaryutil.NativeEndian.PutUint32(m.Number))
	case Mark:
		return meta(expr.MetaKeyMARK, binaryutil.NativeEndian.PutUint32(m.Number))
	case OutInterface:
		return meta(expr.MetaKeyOIFNAME, interfaceName(m.Name))
	case InInterface:
		return meta(expr.MetaKeyIIFNAME, interfaceName(m.Name))
	case DestinationNet:
		return destinationNet(m)
	case DestinationPort:
		return append(meta(expr.MetaKeyL4PROTO, []byte{unix.IPPROTO_TCP}),
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(uint16(m.Number))})
	default: // TCP
		return meta(expr.MetaKeyL4PROTO, []byte{unix.IPPROTO_TCP})
	}
}

func meta(key expr.MetaKey, data []byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data},
	}
}

// interfaceName is a name as the kernel compares it: padded with zeros.
func interfaceName(s string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, s)
	return b
}

func destinationNet(m Match) []expr.Any {
	family, offset, size := byte(unix.NFPROTO_IPV6), uint32(24), 16
	if m.Net.Addr().Is4() {
		family, offset, size = unix.NFPROTO_IPV4, 16, 4
	}
	mask := make([]byte, size)
	for i := range m.Net.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return append(meta(expr.MetaKeyNFPROTO, []byte{family}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(size)},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size), Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: m.Net.Addr().AsSlice()})
}
