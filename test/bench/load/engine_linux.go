package load

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// engine is the client: one thread with an epoll loop, so that it is quick to
// wake and leaves the CPU to the proxies. Requests with a rate are due by the
// clock; one that finds all connections busy waits, and its waiting counts.
type engine struct {
	plan    Plan
	to      unix.Sockaddr
	request []byte
	buf     []byte
	poll    int
	timer   int // of what is due next
	events  []unix.EpollEvent
	conns   []*conn
	free    []*conn // without a request, the longest idle first
	result  Result
	took    []time.Duration
}

func newEngine(p Plan) (prepared, error) {
	at, err := netip.ParseAddrPort(p.To)
	if err != nil || !at.Addr().Is4() {
		return nil, fmt.Errorf("load: %q is no IPv4 address and port", p.To)
	}
	if p.Connections < 1 || p.Kind == Bulk && p.Connections > 1 {
		return nil, fmt.Errorf("load: %d connections for %s", p.Connections, p.Kind)
	}
	e := &engine{
		plan: p, to: &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}, request: requestOf(p),
		buf: make([]byte, 256<<10), events: make([]unix.EpollEvent, 256), took: make([]time.Duration, 0, 1<<16),
	}
	if e.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if e.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return nil, err
	}
	if err := unix.EpollCtl(e.poll, unix.EPOLL_CTL_ADD, e.timer, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: timerSlot}); err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	if err := e.open(); err != nil {
		e.close()
		return nil, fmt.Errorf("load: %s: %w", p.To, err)
	}
	debug.SetGCPercent(-1) // a run is short, and nothing may pause it
	return e, nil
}

// timerSlot stands for the timer where other events have a connection's number.
const timerSlot = -1

func requestOf(p Plan) []byte {
	path, last := "/1k", ""
	switch p.Kind {
	case Bulk:
		path = fmt.Sprintf("/bulk/%d", p.Bytes)
	case Connections:
		last = "Connection: close\r\n"
	}
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: boards.shop.svc.cluster.local\r\nUser-Agent: bench\r\n%s\r\n", path, last)
}

// open makes the connections. Those that stay are used once, so that no
// handshake is in what is measured.
func (e *engine) open() error {
	for n := range e.plan.Connections {
		c := &conn{slot: int32(n), fd: -1}
		e.conns = append(e.conns, c)
		if e.plan.Kind == Connections {
			e.free = append(e.free, c)
			continue
		}
		if err := e.dial(c); err != nil {
			return err
		}
		if e.plan.Kind == Bulk {
			e.free = append(e.free, c)
			continue
		}
		if err := e.send(c, time.Now()); err != nil {
			return err
		}
		for c.busy {
			if err := e.turn(nil); err != nil {
				return err
			}
		}
	}
	e.took, e.result = e.took[:0], Result{}
	return nil
}

func (e *engine) dial(c *conn) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	c.fd = fd
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if err := connect(fd, e.to); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return unix.EpollCtl(e.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: c.slot})
}

// connect waits until a socket is connected; on loopback that is at once.
func connect(fd int, to unix.Sockaddr) error {
	if err := unix.Connect(fd, to); !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(patience.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return unix.ETIMEDOUT
		}
		number, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && number != 0 {
			err = syscall.Errno(number)
		}
		return err
	}
}

// send puts a request on a connection; due is when it should have been.
func (e *engine) send(c *conn, due time.Time) error {
	if c.fd < 0 {
		if err := e.dial(c); err != nil {
			return err
		}
	}
	c.start(due)
	n, err := unix.Write(c.fd, e.request)
	if err == nil && n < len(e.request) {
		err = unix.EAGAIN
	}
	if err != nil {
		return fmt.Errorf("send a request: %w", err)
	}
	return nil
}

// run is the measured part.
func (e *engine) run() (Result, error) {
	start := time.Now()
	s := &schedule{start: start, length: e.plan.For, count: e.plan.Count}
	if e.plan.Kind == Bulk {
		s.length, s.count = 0, 1
	}
	if e.plan.Rate > 0 {
		s.every = time.Second / time.Duration(e.plan.Rate)
		if err := e.tick(s.every); err != nil {
			return Result{}, err
		}
	}
	for !s.over() || len(e.free) < len(e.conns) {
		if err := e.turn(s); err != nil {
			return Result{}, fmt.Errorf("load: after %d answers: %w", e.result.Done, err)
		}
	}
	e.result.Seconds = time.Since(start).Seconds()
	e.result.times(e.took)
	return e.result, nil
}

// tick makes the loop wake when requests are due.
func (e *engine) tick(every time.Duration) error {
	t := unix.NsecToTimespec(every.Nanoseconds())
	return unix.TimerfdSettime(e.timer, 0, &unix.ItimerSpec{Interval: t, Value: t}, nil)
}

// turn sends what the schedule has due and takes what has come; without a
// schedule it sends nothing.
func (e *engine) turn(s *schedule) error {
	if err := e.feed(s); err != nil {
		return err
	}
	if s != nil && s.over() && len(e.free) == len(e.conns) {
		return nil // nothing is out
	}
	n, err := unix.EpollWait(e.poll, e.events, int(patience.Milliseconds()))
	switch {
	case errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return err
	case n == 0:
		return fmt.Errorf("no byte came for %s", patience)
	}
	for _, ev := range e.events[:n] {
		if ev.Fd == timerSlot {
			var ticks [8]byte
			if _, err := unix.Read(e.timer, ticks[:]); err != nil && !errors.Is(err, unix.EAGAIN) {
				return err
			}
			continue
		}
		if err := e.receive(e.conns[ev.Fd]); err != nil {
			return err
		}
		if err := e.feed(s); err != nil {
			return err
		}
	}
	return nil
}

// feed sends what is due on connections that are free.
func (e *engine) feed(s *schedule) error {
	for s != nil && len(e.free) > 0 {
		due, ok := s.next(time.Now())
		if !ok {
			return nil
		}
		c := e.free[0]
		e.free = e.free[1:]
		if err := e.send(c, due); err != nil {
			return err
		}
	}
	return nil
}

// receive reads what a connection has.
func (e *engine) receive(c *conn) error {
	n, err := unix.Read(c.fd, e.buf)
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("read an answer: %w", err)
	case !c.busy:
		return fmt.Errorf("%d bytes came, or the end, on a connection without a request", n)
	}
	if n == 0 && !(e.plan.Kind == Connections && c.whole()) {
		return errors.New("the connection ended before the answer was whole")
	}
	if err := c.take(e.buf[:n]); err != nil {
		return err
	}
	// A connection of one request is over when it has ended, too.
	if !c.whole() || e.plan.Kind == Connections && n > 0 {
		return nil
	}
	c.busy = false
	e.took = append(e.took, time.Since(c.due))
	e.result.Done++
	e.result.Bytes += c.body
	if e.plan.Kind == Connections {
		unix.Close(c.fd)
		c.fd = -1
	}
	e.free = append(e.free, c)
	return nil
}

func (e *engine) close() {
	for _, c := range e.conns {
		if c.fd >= 0 {
			unix.Close(c.fd)
		}
	}
	unix.Close(e.timer)
	unix.Close(e.poll)
	runtime.UnlockOSThread()
}
