package relay

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A connection that agreed to be carried by a loop is, also when it comes while no
// descriptor is left.
func TestNoDescriptorIsLeft(t *testing.T) {
	f := newFast(t)
	rested(t, f) // has spares from then on
	client, server := trunkPair(t)
	ours, app := tcpPair(t)
	theirs, workload := tcpPair(t)
	ends := make(chan error, 2)
	noMoreFiles(t, func() {
		f.Start(TCP(app, nil), client, new(Meter), nil, func(err error) { ends <- err })
		f.Start(server, TCP(workload, nil), new(Meter), nil, func(err error) { ends <- err })
	})
	write(t, ours, "question")
	ours.CloseWrite()
	for _, c := range []*net.TCPConn{ours, theirs} {
		c.SetDeadline(time.Now().Add(10 * time.Second))
	}
	if got := readAll(t, theirs); got != "question" {
		t.Fatalf("the workload got %q", got)
	}
	theirs.CloseWrite()
	if err := errors.Join(<-ends, <-ends); err != nil || !client.Kept() || !server.Kept() {
		t.Errorf("%v, kept %v and %v", err, client.Kept(), server.Kept())
	}
	client.Close()
	server.Close()
}

// noMoreFiles calls do while the process can open nothing but in the place of what
// it closes.
func noMoreFiles(t *testing.T, do func()) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Fatal(err)
		}
	}()
	free := 0 // the least number that nobody has, when all gaps are filled
	for range 64 {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		free = max(free, fd+1)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free), Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Eventfd(0, 0); err != unix.EMFILE {
		t.Fatalf("a descriptor is left: %v", err)
	}
	do()
}

// A loop that met an error is followed by another: what comes is carried, also what
// rested there.
func TestALoopThatEndedIsFollowedByAnother(t *testing.T) {
	f := newFast(t)
	client, server := rested(t, f)
	f.mu.Lock()
	loops := f.loops
	f.mu.Unlock()
	for _, l := range loops {
		l.file.Close()
		<-l.over
	}
	ours, app := tcpPair(t)
	theirs, workload := tcpPair(t)
	ends := make(chan error, 2)
	f.Start(TCP(app, nil), client, new(Meter), nil, func(err error) { ends <- err })
	f.Start(server, TCP(workload, nil), new(Meter), nil, func(err error) { ends <- err })
	write(t, ours, "question")
	ours.CloseWrite()
	if got := readAll(t, theirs); got != "question" {
		t.Errorf("the workload got %q", got)
	}
	theirs.CloseWrite()
	if err := errors.Join(<-ends, <-ends); err != nil {
		t.Error(err)
	}
	client.Close()
	server.Close()
	if again := f.loop(); again == nil || again.isClosed() {
		t.Error("no loop")
	}
}

// The one with the fewest connections may be about to end.
func TestALoopThatTakesNothingIsNotAsked(t *testing.T) {
	f := newFast(t)
	l := f.loop()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	if again := f.loop(); again == l {
		t.Error("the loop that ends")
	}
	l.mu.Lock()
	l.closed = false
	l.mu.Unlock()
}
