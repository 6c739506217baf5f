package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
)

// localListener accepts from a real listener and from this very process. The
// real one may have been made in another network namespace, where it cannot be
// dialled from here; a socket pair needs no network at all.
type localListener struct {
	outer  net.Listener
	conns  chan net.Conn
	outerr chan error
	done   chan struct{}
	once   sync.Once
	wg     sync.WaitGroup

	mu   sync.Mutex
	open map[*localConn]bool // our ends of connections within the process
}

func newLocalListener(outer net.Listener) (*localListener, error) {
	if _, ok := outer.Addr().(*net.TCPAddr); !ok {
		return nil, fmt.Errorf("the listener's address %v is not a TCP address", outer.Addr())
	}
	l := &localListener{outer: outer, conns: make(chan net.Conn), outerr: make(chan error, 1), done: make(chan struct{}), open: map[*localConn]bool{}}
	l.wg.Go(l.pump)
	return l, nil
}

// pump moves the outer listener's connections; Close ends it.
func (l *localListener) pump() {
	for {
		c, err := l.outer.Accept()
		if err != nil {
			l.outerr <- err
			return
		}
		select {
		case l.conns <- c:
		case <-l.done:
			c.Close()
		}
	}
}

func (l *localListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case err := <-l.outerr:
		return nil, err
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *localListener) Addr() net.Addr { return l.outer.Addr() }

// Close also ends the connections within the process: HTTP/2 would keep the
// server waiting a second for each, in case a request is on its way.
func (l *localListener) Close() error {
	var err error
	l.once.Do(func() {
		close(l.done)
		err = l.outer.Close()
		l.wg.Wait()
		l.mu.Lock()
		open := l.open
		l.open = nil
		l.mu.Unlock()
		for c := range open {
			c.Conn.Close()
		}
	})
	return err
}

// dial makes a connection to the server inside this process. The address is
// ignored. It waits until the server accepts.
func (l *localListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs, err := socketPair(l.Addr())
	if err != nil {
		return nil, fmt.Errorf("apiserver: connect within the process: %w", err)
	}
	select {
	case l.conns <- theirs:
		return l.track(ours), nil
	case <-l.done:
		err = net.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, ours.Close(), theirs.Close())
}

// track remembers an open connection; one that comes after Close is ended at
// once.
func (l *localListener) track(c *localConn) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		c.Conn.Close()
		return c
	}
	c.closed = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.open, c)
	}
	l.open[c] = true
	return c
}

func socketPair(addr net.Addr) (a, b *localConn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	fa, fb := os.NewFile(uintptr(fds[0]), "apiserver"), os.NewFile(uintptr(fds[1]), "apiserver")
	defer fa.Close() // FileConn duplicates
	defer fb.Close()
	ca, err := net.FileConn(fa)
	if err != nil {
		return nil, nil, err
	}
	cb, err := net.FileConn(fb)
	if err != nil {
		return nil, nil, errors.Join(err, ca.Close())
	}
	return &localConn{Conn: ca, addr: addr}, &localConn{Conn: cb, addr: addr}, nil
}

// localConn claims the listener's address at both ends: the server's filters
// expect HOST:PORT.
type localConn struct {
	net.Conn
	addr   net.Addr
	closed func()
}

func (c *localConn) LocalAddr() net.Addr  { return c.addr }
func (c *localConn) RemoteAddr() net.Addr { return c.addr }

func (c *localConn) Close() error {
	if c.closed != nil {
		c.closed()
	}
	return c.Conn.Close()
}
