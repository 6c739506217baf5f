package boards_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// relay passes TCP connections on and can reset all of them.
type relay struct {
	addr  string
	mu    sync.Mutex
	conns map[*net.TCPConn]bool
}

func startRelay(t *testing.T, to string) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{addr: ln.Addr().String(), conns: make(map[*net.TCPConn]bool)}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			a, b := in.(*net.TCPConn), out.(*net.TCPConn)
			r.track(a, b)
			running.Go(func() { _, _ = io.Copy(a, b); a.Close(); b.Close() })
			running.Go(func() { _, _ = io.Copy(b, a); a.Close(); b.Close() })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		r.cut()
		running.Wait()
	})
	return r
}

func (r *relay) track(conns ...*net.TCPConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		r.conns[c] = true
	}
}

// cut resets every connection that was open.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		_ = c.SetLinger(0) // close with RST
		c.Close()
	}
	clear(r.conns)
}
