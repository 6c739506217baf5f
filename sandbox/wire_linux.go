package sandbox

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

const (
	// wireBuffer is how much the kernel keeps while we look at a packet.
	wireBuffer = 8 << 20
	// wireTurn is how soon a watcher notices that it is to stop.
	wireTurn = 50_000 // microseconds
)

// Watch gives every IP packet that goes over the wire of a running pod to look,
// from when it returns until stop is called. stop waits for what is under way,
// and tells how many packets were missed. look must not keep the packet.
func (s *Sandbox) Watch(namespace, name string, look func(packet []byte)) (stop func() (missed int, err error), err error) {
	_, network, err := s.pods.connected(namespace, name)
	if err != nil {
		return nil, err
	}
	wire, err := net.InterfaceByName(wireName(network.addr))
	if err != nil {
		return nil, fmt.Errorf("sandbox: the wire of pod %s/%s: %w", namespace, name, err)
	}
	// A datagram has no link header: it begins with IP's.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("sandbox: open a packet socket: %w", err)
	}
	fail := func(err error) (func() (int, error), error) {
		unix.Close(fd)
		return nil, fmt.Errorf("sandbox: watch the wire of pod %s/%s: %w", namespace, name, err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, wireBuffer); err != nil {
		// Without the privilege it is what the system allows.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, wireBuffer); err != nil {
			return fail(err)
		}
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: wireTurn}); err != nil {
		return fail(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: wire.Index}); err != nil {
		return fail(err)
	}
	ending, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- sniff(fd, look, ending) }()
	return func() (int, error) {
		close(ending)
		err := <-done
		defer unix.Close(fd)
		n, statErr := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err = errors.Join(err, statErr); err != nil {
			return 0, fmt.Errorf("sandbox: watch the wire of pod %s/%s: %w", namespace, name, err)
		}
		return int(n.Drops), nil
	}, nil
}

// sniff until ending is closed and there is nothing more to read.
func sniff(fd int, look func([]byte), ending <-chan struct{}) error {
	b := make([]byte, 1<<17)
	for {
		n, _, err := unix.Recvfrom(fd, b, 0)
		switch {
		case err == nil:
			look(b[:n])
		case errors.Is(err, unix.EAGAIN):
			select {
			case <-ending:
				return nil
			default:
			}
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
}

func bigEndian(n uint16) uint16 { return n<<8 | n>>8 }
