package sockmap

import (
	"fmt"
	"io"
	"net"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDifferences holds what a program sees of a connection that goes by sockmap
// against what it sees of TCP. Each difference is one that an application, which
// did not ask for it, may stumble over: a connection is not taken past TCP as
// long as there are any. One that is gone is in the log.
func TestDifferences(t *testing.T) {
	need(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := c.do(t); got != c.tcp {
				t.Fatalf("TCP gives %q, not %q: the case is wrong", got, c.tcp)
			}
			end := load(t, Options{})
			defer end()
			switch got := c.do(t); {
			case got == c.tcp && len(c.known) > 0:
				t.Logf("sockmap is like TCP here: %s; known was %q", got, c.known)
			case got == c.tcp:
				t.Logf("alike: %s", got)
			case slices.Contains(c.known, got):
				t.Logf("TCP: %s; sockmap: %s", c.tcp, got)
			default:
				t.Errorf("TCP: %s; sockmap: %s, which is new", c.tcp, got)
			}
		})
	}
}

// cases send from a to b, both of which block.
var cases = []struct {
	name  string
	do    func(t *testing.T) string
	tcp   string
	known []string // of sockmap, on some kernel
}{
	{"data, end", func(t *testing.T) string {
		a, b := pair(t)
		a.write("hello")
		unix.Shutdown(a.fd, unix.SHUT_WR)
		return b.read(9, 0) + ", " + b.read(9, 0)
	}, `"hello", end`, nil},

	{"data, reset", func(t *testing.T) string {
		a, b := pair(t)
		a.write("hello")
		a.reset()
		return b.read(9, 0) + ", " + b.read(9, 0)
	}, `"hello", connection reset by peer`, nil},

	{"an answer after the end, read when both have ended", func(t *testing.T) string {
		a, b := pair(t)
		unix.Shutdown(b.fd, unix.SHUT_WR)
		a.write("hello")
		a.close()
		b.wait(unix.POLLHUP)
		return b.read(9, 0) + ", " + b.read(9, 0)
	}, `"hello", end`, nil},

	{"two messages in one look", func(t *testing.T) string {
		a, b := pair(t)
		a.write("hello")
		a.write("world")
		unix.Shutdown(a.fd, unix.SHUT_WR)
		b.wait(unix.POLLRDHUP) // all of it has come
		return b.read(20, unix.MSG_PEEK) + ", " + b.read(20, 0)
	}, `"helloworld", "helloworld"`, nil},

	{"how much is there, FIONREAD", func(t *testing.T) string {
		a, b := pair(t)
		a.write("hello")
		b.wait(unix.POLLIN)
		n, err := unix.IoctlGetInt(b.fd, unix.SIOCINQ)
		return say(fmt.Sprint(n), err)
	}, "5", []string{"0"}},

	{"who does not read is sent without end", func(t *testing.T) string {
		a, _ := pair(t)
		unix.SetNonblock(a.fd, true)
		p := make([]byte, 64<<10)
		for range 1024 {
			if _, err := unix.Write(a.fd, p); err != nil {
				return err.Error()
			}
		}
		return "64 MiB"
	}, unix.EAGAIN.Error(), []string{"64 MiB"}},

	{"io.Copy to another connection", func(t *testing.T) string {
		a, b := tcpPair(t)
		c, d := tcpPair(t)
		io.WriteString(a, "hello")
		a.CloseWrite()
		_, err := io.Copy(c, b) // splice(2)
		c.CloseWrite()
		got, _ := io.ReadAll(d)
		return say(fmt.Sprintf("%q", got), err)
	}, `"hello"`, []string{`""`}}, // and no error

	{"splice after poll", func(t *testing.T) string {
		a, b := pair(t)
		var pipe [2]int
		if err := unix.Pipe(pipe[:]); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pipe[0])
		defer unix.Close(pipe[1])
		a.write("hello")
		b.wait(unix.POLLIN)
		unix.SetNonblock(b.fd, true)
		n, err := unix.Splice(b.fd, nil, pipe[1], nil, 100, unix.SPLICE_F_NONBLOCK)
		return say(fmt.Sprint(n), err)
	}, "5", []string{unix.EAGAIN.Error()}},

	{"a signal while it reads", func(t *testing.T) string {
		a, b := pair(t)
		r := b.reader(t, 9, 0)
		r.interrupted()
		a.write("hello")
		return <-r.got
	}, `"hello"`, []string{unix.EAGAIN.Error()}},

	{"a reset while it reads", func(t *testing.T) string {
		a, b := pair(t)
		r := b.reader(t, 9, 0)
		a.reset()
		return <-r.got
	}, unix.ECONNRESET.Error(), []string{unix.EAGAIN.Error()}},

	{"another thread's shutdown while it reads", func(t *testing.T) string {
		_, b := pair(t)
		r := b.reader(t, 9, 0)
		unix.Shutdown(b.fd, unix.SHUT_RDWR)
		return <-r.got
	}, "end", []string{unix.EAGAIN.Error()}},

	{"MSG_WAITALL", func(t *testing.T) string {
		a, b := pair(t)
		a.write("hello")
		r := b.reader(t, 10, unix.MSG_WAITALL)
		a.write("world")
		return <-r.got
	}, `"helloworld"`, []string{`"hello"`}},

	{"SO_RCVLOWAT", func(t *testing.T) string {
		a, b := pair(t)
		unix.SetsockoptInt(b.fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 10)
		a.write("hello")
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(b.fd), Events: unix.POLLIN}}, 0)
		return say(fmt.Sprint(n, " ready"), err)
	}, "0 ready", []string{"1 ready"}},

	{"close with something unread", func(t *testing.T) string {
		a, b := pair(t)
		a.write("hello")
		b.wait(unix.POLLIN)
		b.close()
		return a.read(9, 0)
	}, unix.ECONNRESET.Error(), []string{"end"}},

	{"sending after the own end", func(t *testing.T) string {
		a, b := pair(t)
		unix.Shutdown(a.fd, unix.SHUT_WR)
		err := unix.Sendto(a.fd, []byte("x"), unix.MSG_NOSIGNAL, nil)
		return say(b.read(9, 0), err)
	}, unix.EPIPE.Error(), []string{`"x"`}},

	{"urgent data", func(t *testing.T) string {
		a, b := pair(t)
		a.write("ab")
		unix.Sendto(a.fd, []byte("!"), unix.MSG_OOB, nil)
		a.write("cd")
		unix.Shutdown(a.fd, unix.SHUT_WR)
		return b.read(9, 0)
	}, `"ab"`, []string{`"ab!cd"`}},

	{"discarding, MSG_TRUNC", func(t *testing.T) string {
		a, b := pair(t)
		a.write("hello")
		return b.read(5, unix.MSG_TRUNC)
	}, `"\x00\x00\x00\x00\x00"`, []string{`"hello"`}},

	{"the completion of MSG_ZEROCOPY", func(t *testing.T) string {
		a, b := pair(t)
		unix.SetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1)
		unix.Sendto(a.fd, make([]byte, 9), unix.MSG_ZEROCOPY, nil)
		b.read(9, 0)
		if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(a.fd)}}, 2000); n == 0 {
			return "none"
		}
		return "one"
	}, "one", []string{"none"}},
}

// tcpPair is the two ends of a connection.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ca, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ca.Close() })
	cb, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cb.Close() })
	return ca.(*net.TCPConn), cb.(*net.TCPConn)
}

// pair is the same without Go between: both ends block.
func pair(t *testing.T) (a, b *end) {
	t.Helper()
	ca, cb := tcpPair(t)
	return block(t, ca), block(t, cb)
}

func block(t *testing.T, c *net.TCPConn) *end {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c.Close()
	fd, err := unix.Dup(int(f.Fd())) // Fd makes it block
	if err != nil {
		t.Fatal(err)
	}
	e := &end{fd: fd}
	t.Cleanup(e.close)
	return e
}
