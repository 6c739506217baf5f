package relay

import (
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// spares are descriptors that wait for a time when there are no others: a loop
// needs a second number for a socket, for as long as the first is not closed.
type spares struct {
	mu     sync.Mutex
	fds    []int
	closed bool
}

// maxSpares is what one connection needs.
const maxSpares = 2

// duplicate is another number for a socket, which the runtime's poller knows
// nothing of.
func (s *spares) duplicate(c *net.TCPConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	err2 := raw.Control(func(old uintptr) {
		if fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0); err == unix.EMFILE || err == unix.ENFILE {
			fd, err = s.take(int(old), err)
		}
	})
	if err2 != nil {
		return -1, err2
	}
	return fd, err
}

// take makes a spare one the number of a socket. In between nobody else can have it.
func (s *spares) take(old int, none error) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.fds) == 0 {
		return -1, none
	}
	last := len(s.fds) - 1
	fd := s.fds[last]
	s.fds = s.fds[:last]
	if err := unix.Dup3(old, fd, unix.O_CLOEXEC); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// fill has as many spare ones as there may be, if there are any to be had.
func (s *spares) fill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.fds) < maxSpares && !s.closed {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			return
		}
		s.fds = append(s.fds, fd)
	}
}

func (s *spares) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fd := range s.fds {
		unix.Close(fd)
	}
	s.fds, s.closed = nil, true
}
