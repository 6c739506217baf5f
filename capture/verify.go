package capture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// verifyTime is how long Verify waits for one connection. A redirected one never
// leaves the machine, but that may be busy: a pod that is refused for that starts anew.
const verifyTime = 5 * time.Second

// Verify dials the targets in their order until one of the connections comes out
// at ln, which listens where the sidecar will: that is proof that the network
// namespace is captured, since a ruleset is there as a whole or not at all. The
// targets should be addresses that nobody has, for a connection that is not
// captured goes there. dial is a net.Dialer's. The error says what became of
// each target.
func Verify(ctx context.Context, ln *net.TCPListener, dial func(ctx context.Context, network, address string) (net.Conn, error), targets []netip.AddrPort) error {
	var errs []error
	for _, t := range targets {
		err := verify(ctx, ln, dial, t)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return errors.New("capture: no target to verify")
	}
	return errors.Join(errs...)
}

func verify(ctx context.Context, ln *net.TCPListener, dial func(context.Context, string, string) (net.Conn, error), target netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, verifyTime)
	defer cancel()
	out, err := dial(ctx, "tcp", target.String())
	if err != nil {
		return fmt.Errorf("capture: verify: %w", err)
	}
	defer out.Close()
	end, _ := ctx.Deadline()
	if err := ln.SetDeadline(end); err != nil {
		return fmt.Errorf("capture: verify: %w", err)
	}
	for {
		in, err := ln.Accept()
		if err != nil {
			return fmt.Errorf("capture: verify: a connection to %s was not redirected to %s: %w", target, ln.Addr(), err)
		}
		dst, err := OriginalDst(in)
		in.Close()
		if err == nil && dst == target {
			return nil
		}
	}
}
