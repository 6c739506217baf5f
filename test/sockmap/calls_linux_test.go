package sockmap

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func say(what string, err error) string {
	if err != nil {
		return err.Error()
	}
	return what
}

// end of a connection. What fails shows in what the other end reads.
type end struct{ fd int }

func (e *end) close() {
	if e.fd >= 0 {
		unix.Close(e.fd)
	}
	e.fd = -1
}

// reset ends the connection by RST.
func (e *end) reset() {
	unix.SetsockoptLinger(e.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	e.close()
}

func (e *end) write(s string) { unix.Write(e.fd, []byte(s)) }

// read tells what one call gives.
func (e *end) read(n, flags int) string {
	p := make([]byte, n)
	n, _, err := unix.Recvfrom(e.fd, p, flags)
	if n == 0 && err == nil {
		return "end"
	}
	return say(fmt.Sprintf("%q", p[:max(n, 0)]), err)
}

// wait returns when events are there.
func (e *end) wait(events int16) {
	p := []unix.PollFd{{Fd: int32(e.fd), Events: events}}
	for p[0].Revents&events == 0 {
		if _, err := unix.Poll(p, -1); err != nil && !errors.Is(err, unix.EINTR) {
			panic(err)
		}
	}
}

// reading is a read in a thread of its own.
type reading struct {
	*testing.T
	thread int
	fd     int
	got    chan string
}

// reader returns when the read waits or has ended.
func (e *end) reader(t *testing.T, n, flags int) *reading {
	t.Helper()
	r := &reading{T: t, fd: e.fd, got: make(chan string, 1)}
	tid := make(chan int)
	go func() {
		runtime.LockOSThread()
		tid <- unix.Gettid()
		r.got <- e.read(n, flags)
	}()
	r.thread = <-tid
	call := fmt.Appendf(nil, "%d %#x ", unix.SYS_RECVFROM, e.fd)
	r.until("wait", func() bool { return bytes.HasPrefix(r.proc("syscall"), call) })
	return r
}

// interrupted sends the thread a signal whose handler wants calls restarted, and
// returns when it has been away from its call or has ended it.
func (r *reading) interrupted() {
	before := r.switches()
	unix.Tgkill(os.Getpid(), r.thread, unix.SIGURG)
	r.until("wake up", func() bool { return r.switches() > before })
}

func (r *reading) switches() (n int) {
	_, after, _ := bytes.Cut(r.proc("status"), []byte("\nvoluntary_ctxt_switches:"))
	if _, err := fmt.Sscan(string(after), &n); err != nil && len(r.got) == 0 {
		r.Fatal(err)
	}
	return n
}

func (r *reading) proc(file string) []byte {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/%s", r.thread, file))
	if err != nil && len(r.got) == 0 { // the thread ends after its read
		r.Fatal(err)
	}
	return b
}

func (r *reading) until(what string, is func() bool) {
	for deadline := time.Now().Add(10 * time.Second); len(r.got) == 0 && !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("the reader does not %s: %s", what, r.proc("syscall"))
		}
	}
}
