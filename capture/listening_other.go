//go:build !linux

package capture

import "net/netip"

// Listening needs Linux.
type Listening struct{}

// OpenListening needs Linux.
func OpenListening() (*Listening, error) { return nil, errPlatform }

// Close does nothing.
func (*Listening) Close() error { return nil }

// At needs Linux.
func (*Listening) At(netip.AddrPort) (bool, error) { return false, errPlatform }
