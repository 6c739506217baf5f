package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"hasp/mesh"
)

// TestIdleTimeout: a connection on which nothing moves ends at both ends as if both
// peers had closed it, and says why; one that moves, waits for its response, or has
// all the time it likes does not.
func TestIdleTimeout(t *testing.T) {
	serverSaw := make(chan error, 3)
	m := newLab(t, mesh.ModeStrict, func(c *net.TCPConn) {
		_, err := io.Copy(c, c)
		serverSaw <- err
	})
	at := m.client.outboundTo(vip)
	open := func() net.Conn {
		c := dial(t, "127.0.0.5", at)
		io.WriteString(c, "hi")
		if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	idle, busy := open(), open()
	now, d := time.Now().Add(time.Hour), time.Hour-time.Minute
	for _, r := range m.client.table.rows() {
		if r.snapshot().Source == addrPort(busy.LocalAddr()) {
			r.meter.Touch(now.Add(-time.Second))
		}
	}
	m.client.endIdle(now, d)
	if n, err := idle.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the silent client read %d bytes, %v", n, err)
	}
	if err := <-serverSaw; err != nil {
		t.Errorf("its server saw %v", err)
	}
	f := m.client.row(func(f mesh.Connection) bool { return f.Source == addrPort(idle.LocalAddr()) && ended(f) })
	if f.Why != "nothing was said for 59m0s, the idle timeout" || !f.Allowed || f.Failure != nil {
		t.Errorf("%+v", f)
	}
	io.WriteString(busy, "yes")
	if _, err := io.ReadFull(busy, make([]byte, 3)); err != nil {
		t.Errorf("the busy client: %v", err)
	}
	m.server.endIdle(now.Add(time.Hour), d) // from the other end
	if n, err := busy.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("whose server's proxy found it silent read %d bytes, %v", n, err)
	}
}

func TestIdleTimeoutWaitsForResponses(t *testing.T) {
	release := make(chan struct{})
	m := bothEnds(t, mesh.HTTP, app(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				<-release
				io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			}
		}
	}))
	c := dial(t, "127.0.0.5", m.client.outboundTo(vip))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	m.server.row(func(f mesh.Connection) bool { return f.Received > 0 })
	later := time.Now().Add(time.Hour)
	m.client.endIdle(later, time.Minute)
	m.server.endIdle(later, time.Minute)
	close(release)
	buf := make([]byte, 1024)
	if n, err := c.Read(buf); err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 204") {
		t.Errorf("%q, %v", buf[:n], err)
	}
	m.client.row(func(f mesh.Connection) bool { return f.Sent > 0 })
	m.client.endIdle(later, time.Minute)
	if n, err := c.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("between two requests: %d bytes, %v", n, err)
	}
}

// TestIdleTimeoutOfTheMesh: mesh-wide settings hold from when they come, and a proxy's
// own word before them.
func TestIdleTimeoutOfTheMesh(t *testing.T) {
	n := newNode(t, newTestCA(t), "boards", "127.0.0.6")
	for _, tc := range []struct {
		own  time.Duration
		mesh int64
		want time.Duration
	}{{0, 0, 0}, {0, 5000, 5 * time.Second}, {time.Hour, 5000, time.Hour}, {-1, 5000, 0}, {time.Hour, 0, time.Hour}} {
		n.cfg.IdleTimeout = tc.own
		c := inboundConfig(1, mesh.ModeStrict, mesh.TCP)
		c.Settings.IdleMillis = tc.mesh
		n.apply(c)
		if got := n.idleTimeout(); got != tc.want {
			t.Errorf("%+v: %s", tc, got)
		}
	}

	n.cfg.IdleTimeout = 0
	server := app(t, echo)
	at := n.inboundFor(server)
	c := inboundConfig(server.Port(), mesh.ModePermissive, mesh.TCP)
	n.apply(c)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); n.keepIdle(ctx) }()
	defer func() { stop(); <-done }()
	conn := dial(t, "127.0.0.1", at)
	io.WriteString(conn, "hi")
	if _, err := io.ReadFull(conn, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	c.Settings.IdleMillis = 1
	n.apply(c)
	go func() { // and others that come more often than connections are looked at
		for ctx.Err() == nil {
			select {
			case n.idleChanged <- struct{}{}:
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("%v", err)
	}
}
