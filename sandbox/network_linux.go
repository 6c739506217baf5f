package sandbox

import (
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// network is one pod's place on the fabric.
type network struct {
	ns   netns.NsHandle
	addr address
	once sync.Once
}

// attach makes a network namespace, wires it to the fabric as eth0 and gives it
// its addresses and a way out.
func (f *fabric) attach(a address) (*network, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	n := &network{ns: ns, addr: a}
	if err := f.wire(n); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// close gives the namespace up; with its last process the kernel removes it
// and the wire.
func (n *network) close() { n.once.Do(func() { n.ns.Close() }) }

func (f *fabric) wire(n *network) error {
	la := netlink.NewLinkAttrs()
	la.Name = wireName(n.addr)
	la.MasterIndex = f.bridge.Attrs().Index
	la.Flags = net.FlagUp
	// One message makes the pair, joins one end to the bridge and moves the
	// other into the pod.
	err := f.handle.LinkAdd(&netlink.Veth{LinkAttrs: la, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(n.ns))})
	if err != nil {
		return missingModule("make a veth pair", "veth", err)
	}
	h, err := netlink.NewHandleAt(n.ns)
	if err != nil {
		return fmt.Errorf("sandbox: open netlink in a pod: %w", err)
	}
	defer h.Close()
	for _, name := range []string{"lo", "eth0"} {
		link, err := h.LinkByName(name)
		if err != nil {
			return fmt.Errorf("sandbox: find a pod's %s: %w", name, err)
		}
		if name == "eth0" {
			for _, ip := range []netip.Addr{n.addr.v4(), n.addr.v6()} {
				if err := addAddress(h, link, netip.PrefixFrom(ip, ip.BitLen())); err != nil {
					return err
				}
			}
		}
		if err := h.LinkSetUp(link); err != nil {
			return fmt.Errorf("sandbox: bring a pod's %s up: %w", name, err)
		}
		if name == "eth0" {
			if err := routeOut(h, link); err != nil {
				return err
			}
		}
	}
	return onThread(func() error {
		if err := netns.Set(n.ns); err != nil {
			return fmt.Errorf("sandbox: enter a pod's network: %w", err)
		}
		// As in a container: port 80 needs no privilege.
		if err := sysctl(map[string]string{"net/ipv4/ip_unprivileged_port_start": "0"}); err != nil {
			return err
		}
		// A packet outside the window is not translated, so the workload itself
		// would get it, know nothing of it, and reset the connection.
		return sysctlIfThere(map[string]string{"net/netfilter/nf_conntrack_tcp_be_liberal": "1"})
	})
}

// wireName is the fabric's end of a pod's wire.
func wireName(a address) string { return fmt.Sprintf("pod%d", a) }

func routeOut(h *netlink.Handle, link netlink.Link) error {
	for _, gw := range []netip.Addr{Gateway, Gateway6} {
		r := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gw.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
		if err := h.RouteAdd(r); err != nil {
			return fmt.Errorf("sandbox: route a pod through %s: %w", gw, err)
		}
	}
	return nil
}

// descriptor of the pod's network namespace.
func (n *network) descriptor() int { return int(n.ns) }
