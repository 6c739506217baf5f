package apiserver

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
)

// Both ways in arrive at one Accept, and Close ends what is open within the
// process.
func TestLocalListener(t *testing.T) {
	outer, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLocalListener(outer)
	if err != nil {
		t.Fatal(err)
	}
	accept := func(dial func() (net.Conn, error)) net.Conn {
		t.Helper()
		dialled := make(chan net.Conn, 1)
		go func() {
			c, err := dial()
			if err != nil {
				t.Error(err)
			}
			dialled <- c
		}()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		client := <-dialled
		if _, err := server.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(client, b); err != nil || string(b) != "hello" {
			t.Errorf("read %q, %v", b, err)
		}
		return client
	}
	accept(func() (net.Conn, error) { return net.Dial("tcp", outer.Addr().String()) }).Close()
	local := accept(func() (net.Conn, error) { return l.dial(t.Context(), "", "") })
	if got := local.RemoteAddr().String(); got != outer.Addr().String() {
		t.Errorf("remote address within the process: %s, want %s", got, outer.Addr())
	}

	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.dial(canceled, "", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("dial when nobody accepts and the context ended: %v", err)
	}
	l.Close()
	l.Close()
	if _, err := local.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
	if _, err := l.dial(t.Context(), "", ""); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial after Close: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after Close: %v", err)
	}
}
