//go:build !linux

package capture

import "errors"

var errPlatform = errors.New("capture: needs Linux: nftables redirects the connections")

// Apply needs Linux.
func Apply(ns int, s Spec) error { return errPlatform }

// Remove needs Linux.
func Remove(ns int) error { return errPlatform }

// Installed needs Linux.
func Installed(ns int) (bool, error) { return false, errPlatform }

// Counters needs Linux.
func Counters(ns int, s Spec) ([]Counted, error) { return nil, errPlatform }
