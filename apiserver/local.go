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
}

func newLocalListener(outer net.Listener) (*localListener, error) {
	if _, ok := outer.Addr().(*net.TCPAddr); !ok {
		return nil, fmt.Errorf("the listener's address %v is not a TCP address", outer.Addr())
	}
	l := &localListener{outer: outer, conns: make(chan net.Conn), outerr: make(chan error, 1), done: make(chan struct{})}
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

func (l *localListener) Close() error {
	var err error
	l.once.Do(func() {
		close(l.done)
		err = l.outer.Close()
		l.wg.Wait()
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
		return ours, nil
	case <-l.done:
		err = net.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, ours.Close(), theirs.Close())
}

func socketPair(addr net.Addr) (a, b net.Conn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "apiserver")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			if i == 0 {
				syscall.Close(fds[1])
			} else {
				conns[0].Close()
			}
			return nil, nil, err
		}
		conns[i] = localConn{c, addr}
	}
	return conns[0], conns[1], nil
}

// localConn claims the listener's address at both ends: the server's filters
// expect HOST:PORT.
type localConn struct {
	net.Conn
	addr net.Addr
}

func (c localConn) LocalAddr() net.Addr  { return c.addr }
func (c localConn) RemoteAddr() net.Addr { return c.addr }
