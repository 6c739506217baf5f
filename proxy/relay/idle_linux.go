package relay

import (
	"io"
	"net"
	"os"
	"syscall"
)

// idleReader reads a TCP socket and holds a buffer only from the moment bytes
// are there until they were forwarded: ten thousand silent connections hold
// none.
type idleReader struct {
	tcp *net.TCPConn
	raw syscall.RawConn
	buf *[]byte
	n   int
	err error
	try func(fd uintptr) bool // made once: a closure a read would be garbage
}

func newIdleReader(c *net.TCPConn) *idleReader {
	r := &idleReader{tcp: c}
	r.raw, r.err = c.SyscallConn()
	r.try = r.readNow
	return r
}

func (r *idleReader) next() ([]byte, error) {
	r.release()
	if r.raw == nil {
		return nil, r.err
	}
	if err := r.raw.Read(r.try); err != nil {
		return nil, err
	}
	switch {
	case r.err != nil:
		return nil, os.NewSyscallError("read", r.err)
	case r.n == 0:
		return nil, io.EOF
	}
	return (*r.buf)[:r.n], nil
}

// readNow reads without waiting; false asks the runtime to call again when the
// socket is readable.
func (r *idleReader) readNow(fd uintptr) bool {
	r.buf = getBuffer()
	for {
		r.n, r.err = syscall.Read(int(fd), *r.buf)
		if r.err != syscall.EINTR {
			break
		}
	}
	if r.err == syscall.EAGAIN {
		r.release()
		return false
	}
	return true
}

func (r *idleReader) release() {
	if r.buf != nil {
		putBuffer(r.buf)
		r.buf = nil
	}
}

// Peek waits until the peer has sent something and returns its first byte
// without consuming it. It obeys the read deadline of c. io.EOF means that the
// peer ended its stream without a byte.
func Peek(c *net.TCPConn) (byte, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var b [1]byte
	var n int
	var rerr error
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, _, rerr = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
			if rerr != syscall.EINTR {
				break
			}
		}
		return rerr != syscall.EAGAIN
	})
	switch {
	case err != nil:
		return 0, err
	case rerr != nil:
		return 0, os.NewSyscallError("recvfrom", rerr)
	case n == 0:
		return 0, io.EOF
	}
	return b[0], nil
}

// PeekRandom is the ClientRandom of what the peer has sent and nobody has read
// yet. It does not wait.
func PeekRandom(c *net.TCPConn) []byte {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	var b [helloSize]byte
	n := 0
	_ = raw.Control(func(fd uintptr) { // fails only on a closed socket
		n, _, _ = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return ClientRandom(b[:max(n, 0)])
}
