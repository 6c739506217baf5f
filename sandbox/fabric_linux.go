package sandbox

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Bridge is the name of the interface that every packet between pods crosses:
// the place for a packet capture.
const Bridge = "hasp0"

// fabric is the network that joins the pods: a bridge in the network namespace
// of this process, which routes between them. Pods have no neighbour but the
// gateway, so that all they say is routed here and can be balanced.
type fabric struct {
	ns     netns.NsHandle
	handle *netlink.Handle
	bridge netlink.Link

	balancing sync.Mutex // one change of the ruleset at a time
}

// newFabric builds the fabric in the current network namespace, which must be
// one that Command made: routing is switched on in it.
func newFabric() (*fabric, error) {
	ns, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("sandbox: own network namespace: %w", err)
	}
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		ns.Close()
		return nil, fmt.Errorf("sandbox: open netlink: %w", err)
	}
	f := &fabric{ns: ns, handle: h}
	if err := f.build(); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// close gives up the descriptors; the bridge ends with its namespace.
func (f *fabric) close() {
	f.handle.Close()
	f.ns.Close()
}

func (f *fabric) build() error {
	la := netlink.NewLinkAttrs()
	la.Name = Bridge
	// Without an address of its own a bridge takes the lowest of its ports', and
	// changes it as pods come and go, behind the back of those that know it.
	la.HardwareAddr = net.HardwareAddr{0x02, 'h', 'a', 's', 'p', 0x01}
	if err := f.handle.LinkAdd(&netlink.Bridge{LinkAttrs: la}); err != nil {
		return missingModule("make a bridge", "bridge", err)
	}
	br, err := f.handle.LinkByName(Bridge)
	if err != nil {
		return fmt.Errorf("sandbox: find %s: %w", Bridge, err)
	}
	f.bridge = br
	for _, p := range []netip.Prefix{netip.PrefixFrom(Gateway, PodRange.Bits()), netip.PrefixFrom(Gateway6, PodRange6.Bits())} {
		if err := addAddress(f.handle, br, p); err != nil {
			return err
		}
	}
	if err := f.handle.LinkSetUp(br); err != nil {
		return fmt.Errorf("sandbox: bring %s up: %w", Bridge, err)
	}
	if err := routing(); err != nil {
		return err
	}
	// Somebody must take the packets to virtual addresses in before the ruleset
	// can say which pod they are for, or that there is none.
	for _, p := range []netip.Prefix{ServiceRange, ServiceRange6} {
		if err := f.handle.RouteAdd(&netlink.Route{LinkIndex: br.Attrs().Index, Dst: ipNet(p)}); err != nil {
			return fmt.Errorf("sandbox: route %s: %w", p, err)
		}
	}
	return f.balance(nil)
}

// routing switches the kernel of the fabric's namespace from host to router.
func routing() error {
	if err := sysctl(map[string]string{
		"net/ipv4/ip_forward":                         "1",
		"net/ipv6/conf/all/forwarding":                "1",
		"net/ipv4/conf/all/rp_filter":                 "0",
		"net/ipv4/conf/" + Bridge + "/rp_filter":      "0",
		"net/ipv4/conf/all/send_redirects":            "0", // every packet leaves by the interface it came in
		"net/ipv4/conf/" + Bridge + "/send_redirects": "0",
	}); err != nil {
		return err
	}
	// Where the module br_netfilter is loaded (Docker does), a bridge rewrites
	// packets by the rules for routers and then bridges them; these must be
	// routed, or a pod could not reach itself through a Service.
	return sysctlIfThere(map[string]string{
		"net/bridge/bridge-nf-call-iptables":        "0",
		"net/bridge/bridge-nf-call-ip6tables":       "0",
		"net/netfilter/nf_conntrack_tcp_be_liberal": "1",
	})
}

func addAddress(h *netlink.Handle, link netlink.Link, p netip.Prefix) error {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		// Else the address is tentative for a second or two and cannot be bound.
		a.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrAdd(link, a); err != nil {
		if p.Addr().Is6() && errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP) {
			return &Missing{What: "add an IPv6 address", Err: err, Fix: "sudo sysctl -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0"}
		}
		return fmt.Errorf("sandbox: add address %s: %w", p, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// sysctl sets switches of the current thread's network namespace.
func sysctl(values map[string]string) error {
	for file, v := range values {
		if err := os.WriteFile(filepath.Join("/proc/sys", file), []byte(v), 0o644); err != nil {
			return &Missing{What: "set " + file + " to " + v, Err: err, Fix: "run where /proc/sys is writable"}
		}
	}
	return nil
}

// sysctlIfThere sets switches that exist only when some module is loaded.
func sysctlIfThere(values map[string]string) error {
	for file, v := range values {
		if _, err := os.Stat(filepath.Join("/proc/sys", file)); err != nil {
			continue
		}
		if err := sysctl(map[string]string{file: v}); err != nil {
			return err
		}
	}
	return nil
}

// missingModule tells a module that is not loaded, which an ordinary user
// cannot load, from other failures.
func missingModule(what, module string, err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return &Missing{What: what, Err: err, Fix: "sudo modprobe " + module}
	}
	return fmt.Errorf("sandbox: %s: %w", what, err)
}
