package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// Listening asks the kernel whether somebody listens. It holds one netlink
// socket, of the network namespace it was opened in; make one with
// [OpenListening] and Close it. It may be used from several goroutines.
//
// The kernel looks one address up, as it would for a packet that begins a
// connection: some microseconds, however many sockets there are, and
// without a privilege. (Reading /proc/net/tcp to its end walks the table of all
// connections of the machine, which is milliseconds.)
type Listening struct {
	mu  sync.Mutex
	fd  int
	seq uint32
	buf [4096]byte
}

// OpenListening opens the socket. An error means that the kernel, or what
// confines the process, has no sock_diag(7).
func OpenListening() (*Listening, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("capture: ask who listens: %w", err)
	}
	return &Listening{fd: fd}, nil
}

// Close closes the socket.
func (l *Listening) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return unix.Close(l.fd)
}

// At is true when a connection to addr would find a TCP socket that listens:
// one bound to that address, or to all addresses of its family. With an address
// of all zeros only those bound to all addresses count.
func (l *Listening) At(addr netip.AddrPort) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	if err := unix.Sendto(l.fd, listenQuery(addr, l.seq), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return false, fmt.Errorf("capture: ask who listens on %s: %w", addr, err)
	}
	// The kernel has answered before sendto returns: nothing is waited for. An
	// older answer is one that a failed read left behind.
	for {
		n, _, err := unix.Recvfrom(l.fd, l.buf[:], unix.MSG_DONTWAIT)
		if err != nil {
			return false, fmt.Errorf("capture: hear who listens on %s: %w", addr, err)
		}
		seq, state, err := listenAnswer(l.buf[:n])
		switch {
		case err == nil && seq != l.seq:
		case errors.Is(err, unix.ENOENT):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("capture: hear who listens on %s: %w", addr, err)
		default:
			return state == unix.BPF_TCP_LISTEN, nil
		}
	}
}

// listenQuery is a netlink message (nlmsghdr, 16 bytes) with an
// inet_diag_req_v2 (56 bytes) that names the listening end of a connection and
// leaves the other end open.
// https://man7.org/linux/man-pages/man7/sock_diag.7.html
func listenQuery(addr netip.AddrPort, seq uint32) []byte {
	host := binary.NativeEndian
	b := make([]byte, unix.SizeofNlMsghdr+56)
	host.PutUint32(b[0:], uint32(len(b)))
	host.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	host.PutUint16(b[6:], unix.NLM_F_REQUEST)
	host.PutUint32(b[8:], seq)
	q := b[unix.SizeofNlMsghdr:]
	ip := addr.Addr().Unmap()
	q[0], q[1] = unix.AF_INET6, unix.IPPROTO_TCP
	if ip.Is4() {
		q[0] = unix.AF_INET
	}
	host.PutUint32(q[4:], 1<<unix.BPF_TCP_LISTEN)
	binary.BigEndian.PutUint16(q[8:], addr.Port())
	copy(q[12:28], ip.AsSlice())
	for i := 48; i < 56; i++ {
		q[i] = 0xff // INET_DIAG_NOCOOKIE: any socket
	}
	return b
}

// listenAnswer is the number and the state of the answer, or the kernel's
// error.
func listenAnswer(b []byte) (seq uint32, state int, err error) {
	host := binary.NativeEndian
	if len(b) < unix.SizeofNlMsghdr+4 {
		return 0, 0, fmt.Errorf("an answer of %d bytes", len(b))
	}
	seq = host.Uint32(b[8:])
	body := b[unix.SizeofNlMsghdr:]
	if host.Uint16(b[4:]) == unix.NLMSG_ERROR {
		if n := -int32(host.Uint32(body)); n != 0 {
			return seq, 0, unix.Errno(n)
		}
		return seq, 0, errors.New("an answer without a socket")
	}
	return seq, int(body[1]), nil // inet_diag_msg.idiag_state
}
