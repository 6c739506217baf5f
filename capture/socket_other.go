//go:build !linux

package capture

import (
	"net"
	"net/netip"
	"syscall"
)

// OriginalDst needs Linux.
func OriginalDst(c net.Conn) (netip.AddrPort, error) { return netip.AddrPort{}, errPlatform }

// MarkControl needs Linux for any mark but 0.
func MarkControl(mark int) func(network, address string, c syscall.RawConn) error {
	return func(string, string, syscall.RawConn) error {
		if mark == 0 {
			return nil
		}
		return errPlatform
	}
}
