package relay

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"hasp/proxy/relay/record"
)

// left is what a loop of Fast leaves of a side when a relay has failed: the
// socket, and for TLS the keys. Most are reset without another word, so it
// becomes a connection only for who reads or writes it.
type left struct {
	fd  int
	in  *record.Opener // nil for plain TCP, as is out
	out *record.Sealer
	raw []byte // received, not opened
	end bool   // close_notify came
	// broken tells that not all was sent of what came before: nothing can follow it,
	// and an end in order would tell of a stream that is whole.
	broken bool
}

func (l *left) close(reset bool) {
	closeFD(l.fd, reset || l.broken)
	if l.in != nil {
		l.in.Wipe()
		l.out.Wipe()
	}
}

// closeFD closes a socket, with reset by a TCP RST.
func closeFD(fd int, reset bool) {
	if reset {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	_ = unix.Close(fd)
}

// conn makes it a connection of the runtime's poller again.
func (l *left) conn() (net.Conn, *net.TCPConn, error) {
	f := os.NewFile(uintptr(l.fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, nil, fmt.Errorf("take a socket back: %w", err)
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		c.Close()
		return nil, nil, fmt.Errorf("take a socket back: it is a %T", c)
	}
	if l.in == nil {
		return tcp, tcp, nil
	}
	return newSealed(tcp, l), tcp, nil
}
