package relay

import "golang.org/x/sys/unix"

// wasReset tells whether a stream that seems to have ended in order was reset.
// The kernel tells of a reset once: if a write hears of it, a read that comes
// after sees an end. But a socket whose peer has ended in order is not closed
// while our own half is open.
func (s *Side) wasReset() bool {
	if !s.plain() || s.ended.Load() {
		return false
	}
	raw, err := s.tcp.SyscallConn()
	if err != nil {
		return false
	}
	closed := false
	_ = raw.Control(func(fd uintptr) { closed = isClosed(int(fd)) }) // fails only on a closed socket
	return closed
}

// isClosed tells whether the kernel has closed a connection.
func isClosed(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State == unix.BPF_TCP_CLOSE
}
