package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"hasp/capture"
)

const verifyUsage = `hasp-proxy verify sees whether connections of the network namespace it runs in are
captured, and ends with status 1 when not. It needs no capability, but a user that
is not the sidecar's. It is the container istio-validation of a pod that the CNI
plugin captures for, and runs before the sidecar.

  hasp-proxy verify --targets=192.0.2.1:9,[2001:db8::1]:9

Flags:
`

// verifyCommand dials where the sidecar will be dialled, and takes its place.
func verifyCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("hasp-proxy verify", verifyUsage, stderr)
	var targets []netip.AddrPort
	f.Var(newList(&targets, netip.ParseAddrPort, false, ""), "targets", "`ADDRESS:PORT` that connections are captured to and nobody has; one captured is enough")
	if err := f.parse(args); err != nil {
		return err
	}
	if len(targets) == 0 {
		return f.fail(errors.New("--targets is needed"))
	}
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{Port: outboundPort})
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	defer ln.Close()
	var d net.Dialer
	if err := capture.Verify(ctx, ln, d.DialContext, targets); err != nil {
		return fmt.Errorf("this pod is not captured, so it must not start: was the CNI plugin on the node when the pod was made? See the DaemonSet hasp-cni-node, then delete the pod: %w", err)
	}
	fmt.Fprintln(stdout, "this pod is captured")
	return nil
}
