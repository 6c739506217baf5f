package sandbox

import (
	"context"
	"fmt"
	"net"
	"runtime"

	"github.com/vishvananda/netns"

	"hasp/capture"
)

// onThread runs f on a thread of its own that is thrown away afterwards, so
// that f may change what belongs to a thread: namespaces, capabilities, root.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// newNamespace makes a network namespace that lives as long as its descriptor
// and the processes in it.
func newNamespace() (netns.NsHandle, error) {
	var ns netns.NsHandle
	err := onThread(func() (err error) {
		ns, err = netns.New()
		return err
	})
	if err != nil {
		return -1, &Missing{What: "make a network namespace", Err: err, Fix: "sudo sysctl -w user.max_net_namespaces=15000"}
	}
	return ns, nil
}

// dial dials from inside the pod, past its capture. addr holds a literal
// address.
func (n *network) dial(ctx context.Context, addr string) (net.Conn, error) {
	return n.dialAs(ctx, Mark, addr)
}

// dialAs is dial with packets of a mark, or as the workload itself when it is 0.
func (n *network) dialAs(ctx context.Context, mark int, addr string) (net.Conn, error) {
	var d net.Dialer
	if mark != 0 {
		d.Control = capture.MarkControl(mark)
	}
	var c net.Conn
	err := onThread(func() (err error) {
		if err := netns.Set(n.ns); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		c, err = d.DialContext(ctx, "tcp", addr)
		return err
	})
	return c, err
}
