package relay

import (
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"hasp/proxy/relay/record"
)

const (
	// loopSlots is how many records of full size a loop moves at a time, at most:
	// bulk costs less the more of it is moved between two waits. A flow has at most
	// fewSlots as long as there is little to read, or others wait; see pass.
	loopSlots = 32
	fewSlots  = 4
	slotSize  = record.MaxPlaintext + record.Overhead
	// loopFront is room for a key update before the first record.
	loopFront  = 64
	loopBuffer = loopFront + loopSlots*slotSize

	// loopEvents is how many a loop asks for at a time, loopStint how long it goes
	// on before others may have the processor, handshakes above all.
	loopEvents = 128
	loopStint  = int64(time.Millisecond)
	// lonely is how many events at a time are so few that to look for more, before
	// it waits, would mostly be in vain.
	lonely = 1

	// owedMost of what destinations have not taken makes a loop read few slots at a
	// time from everybody.
	owedMost = 16 << 20
)

// loop serves pairs of sockets in one goroutine. Its own epoll descriptor is
// registered with the runtime's poller, so that an idle loop costs no thread and
// waking it no more than waking any goroutine. Everything but what mu guards is
// the goroutine's.
//
// Sockets are registered once, edge-triggered: what they were found ready for is
// kept in their ends.
type loop struct {
	ep, bell int
	file     *os.File // ep
	raw      syscall.RawConn
	events   [loopEvents]unix.EpollEvent
	n        int // events there are
	err      error

	ends  []*end // by descriptor
	again []*pair
	busy  int   // pairs to serve in this turn, at least one
	owed  int   // bytes of memory for what is unsent, of all flows
	now   int64 // Unix nanoseconds, of this turn
	began int64 // when it was not idle any more, 0 while it is

	buf []byte
	// big is set by who uses more than fewSlots of it, large while that was so
	// when relieve looked last.
	big, large bool
	segs       []segment // of buf, what is to be written
	iov        [maxSegments]unix.Iovec
	// slots are where plaintext that is to be sealed is read to.
	slots [loopSlots]unix.Iovec

	dozer dozer

	load atomic.Int32 // pairs
	over chan struct{}

	mu    sync.Mutex
	queue []*pair // that have something to tell
	rung  bool
	tired bool          // it is time to look for pairs that are silent
	rests map[int]*rest // by descriptor
	// stopping is set by stop, closed when nothing is taken any more.
	stopping, closed bool
}

func newLoop() (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	bell, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(ep)
		return nil, os.NewSyscallError("eventfd", err)
	}
	buf, err := mapBuffer()
	if err != nil {
		unix.Close(ep)
		unix.Close(bell)
		return nil, err
	}
	l := &loop{ep: ep, bell: bell, buf: buf, busy: 1, segs: make([]segment, 0, maxSegments), dozer: dozer{after: dozeAfter}, over: make(chan struct{})}
	for i := range l.slots {
		p := l.buf[loopFront+i*slotSize+record.HeaderLen:]
		l.slots[i] = unix.Iovec{Base: &p[0]}
		l.slots[i].SetLen(record.MaxPlaintext)
	}
	err = l.watch(bell, unix.EPOLLIN)
	if err == nil {
		err = unix.SetNonblock(ep, true) // or NewFile would not ask the poller
	}
	l.file = os.NewFile(uintptr(ep), "epoll")
	if err == nil {
		l.raw, err = l.file.SyscallConn()
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *loop) watch(fd int, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &e))
}

// run is the loop's goroutine.
func (l *loop) run() {
	defer close(l.over)
	// Between two calls of turns nothing is missed: what the runtime's poller saw
	// meanwhile has the next follow at once.
	_ = l.raw.Read(l.turns) // when that fails nothing can be served any more
	l.end()
}

// turns serves pairs. False asks the runtime to call again when there are events,
// true is the end.
func (l *loop) turns(uintptr) (end bool) {
	l.began = 0
	for l.poll() {
		l.now = time.Now().UnixNano()
		if l.began == 0 {
			l.began = l.now
		}
		if !l.turn() {
			return true
		}
		if l.n <= lonely && len(l.again) == 0 {
			return false
		}
		if l.now-l.began > loopStint {
			l.began = 0
			runtime.Gosched()
		}
	}
	return l.err != nil
}

// turn does what the events ask for; false when the loop is to end.
func (l *loop) turn() bool {
	l.busy = max(1, l.n+len(l.again))
	rung := false
	for _, e := range l.events[:l.n] {
		if int(e.Fd) == l.bell {
			rung = true
		} else if int(e.Fd) < len(l.ends) && l.ends[e.Fd] != nil {
			l.ends[e.Fd].ready(e.Events)
		} else {
			l.stir(int(e.Fd))
		}
	}
	if again := l.again; len(again) > 0 {
		l.again = nil
		for _, p := range again {
			p.again = false
			p.pump()
		}
	}
	return !rung || l.answerBell()
}

// poll asks for events without waiting; false when there is nothing to do.
func (l *loop) poll() bool {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(l.ep), uintptr(unsafe.Pointer(&l.events[0])), loopEvents, 0, 0, 0)
		switch errno {
		case 0:
			l.n = int(n)
			return n > 0 || len(l.again) > 0
		case syscall.EINTR:
		default:
			l.n, l.err = 0, errno
			return false
		}
	}
}

// post has the loop attend to a pair; false when the loop has ended.
func (l *loop) post(p *pair) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	if !p.queued {
		p.queued = true
		l.queue = append(l.queue, p)
	}
	l.ring()
	return true
}

// ring wakes the loop. Callers hold mu.
func (l *loop) ring() {
	if !l.rung {
		l.rung = true
		one := [8]byte{1}
		_, _ = unix.Write(l.bell, one[:]) // the counter cannot be full
	}
}

// stop ends the loop.
func (l *loop) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping = true
	if !l.closed { // else the bell's number may be another's
		l.ring()
	}
}

// answerBell attends to the pairs that have something to tell; false when the
// loop is to end.
func (l *loop) answerBell() bool {
	var count [8]byte
	_, _ = unix.Read(l.bell, count[:])
	l.mu.Lock()
	queue, tired := l.queue, l.tired
	l.queue, l.rung, l.tired, l.closed = nil, false, false, l.stopping
	for _, p := range queue {
		p.queued = false
	}
	l.mu.Unlock()
	for _, p := range queue {
		p.attend()
	}
	if tired {
		l.sweep()
	}
	return !l.closed
}

// end ends every pair, and what the loop has open.
func (l *loop) end() {
	l.mu.Lock()
	queue := l.queue
	l.queue, l.closed = nil, true
	l.mu.Unlock()
	for _, p := range queue {
		p.attend()
	}
	for _, e := range l.ends {
		if e != nil {
			e.pair.fail(e, "read", net.ErrClosed)
		}
	}
	l.wakeAll()
	if l.dozer.timer != nil {
		l.dozer.timer.Stop()
	}
	l.close()
}

// close gives back what the loop has open.
func (l *loop) close() {
	l.file.Close()
	unix.Close(l.bell)
	_ = unix.Munmap(l.buf) // fails only for what is none
}

// later has a pair go on in the next turn.
func (l *loop) later(p *pair) {
	if !p.again {
		p.again = true
		l.again = append(l.again, p)
	}
}

// add registers an end.
func (l *loop) add(e *end) error {
	if err := l.watch(e.fd, unix.EPOLLIN|unix.EPOLLPRI|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET); err != nil {
		return err
	}
	if n := e.fd + 1 - len(l.ends); n > 0 {
		l.ends = append(l.ends, make([]*end, n)...)
	}
	l.ends[e.fd] = e
	return nil
}

// remove forgets an end, whose socket stays open. It may never have been added.
func (l *loop) remove(e *end) {
	if e.fd < len(l.ends) {
		l.ends[e.fd] = nil
	}
	_ = unix.EpollCtl(l.ep, unix.EPOLL_CTL_DEL, e.fd, nil) // fails only for one that is not there
}
