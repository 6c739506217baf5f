package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// soOriginalDst is SO_ORIGINAL_DST of linux/netfilter_ipv4.h, and also
// IP6T_SO_ORIGINAL_DST of linux/netfilter_ipv6/ip6_tables.h.
const soOriginalDst = 80

// OriginalDst is the address that a redirected connection was made to, IPv4 or
// IPv6; IPv4 connections to a listener of both families give an IPv4 address.
// The connection must be a TCP connection of package net, or wrap one by
// offering SyscallConn. An error means that the kernel knows of no redirection
// for it. A connection that was made to the listener itself gives the
// listener's own address: whoever dials it again dials himself.
func OriginalDst(c net.Conn) (netip.AddrPort, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("capture: original destination: a %T is no socket", c)
	}
	local, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("capture: original destination: %s is not TCP", c.LocalAddr().Network())
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("capture: original destination: %w", err)
	}
	query := originalDst6
	if local.AddrPort().Addr().Unmap().Is4() {
		query = originalDst4
	}
	var dst netip.AddrPort
	var failed error
	if err := raw.Control(func(fd uintptr) { dst, failed = query(int(fd)) }); err != nil {
		failed = err
	}
	if errors.Is(failed, unix.ENOENT) {
		return netip.AddrPort{}, errors.New("capture: original destination: the connection was not redirected")
	}
	if failed != nil {
		return netip.AddrPort{}, fmt.Errorf("capture: original destination: %w", failed)
	}
	return dst, nil
}

// originalDst4 reads a sockaddr_in. Package unix has no call for one, so it is
// read through a type that has the room: family (2), port (2), address (4).
func originalDst4(fd int) (netip.AddrPort, error) {
	m, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b := m.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
}

// originalDst6 reads a sockaddr_in6, which IPv6MTUInfo begins with.
func originalDst6(fd int) (netip.AddrPort, error) {
	m, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	// The port is in network order whatever this machine's order is.
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], m.Addr.Port)
	return netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), binary.BigEndian.Uint16(port[:])), nil
}

// MarkControl is a Control function for [net.Dialer] and [net.ListenConfig]
// that sets a mark (SO_MARK) on the socket, so that a Spec's ExemptMark lets it
// pass. Setting a mark needs CAP_NET_ADMIN over the network namespace. Mark 0
// does nothing.
func MarkControl(mark int) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		if mark == 0 {
			return nil
		}
		var failed error
		if err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark)
		}); err != nil {
			return err
		}
		if failed != nil {
			return fmt.Errorf("capture: set mark 0x%x: %w", mark, failed)
		}
		return nil
	}
}
