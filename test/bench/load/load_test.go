package load

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// workload serves until the test ends.
func workload(t *testing.T) Ports {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, w) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	var p Ports
	if err := json.NewDecoder(r).Decode(&p); err != nil {
		t.Fatal(err)
	}
	return p
}

// do is a run with its whole conversation.
func do(p Plan) (r Result, err error) {
	var out bytes.Buffer
	if err := Run(p, strings.NewReader("\n"), &out); err != nil {
		return r, err
	}
	rest, ok := strings.CutPrefix(out.String(), "ready\n")
	if !ok {
		return r, io.ErrUnexpectedEOF
	}
	return r, json.Unmarshal([]byte(rest), &r)
}

func TestRun(t *testing.T) {
	to := workload(t)
	for _, tc := range []struct {
		plan  Plan
		done  int
		bytes int64
	}{
		{Plan{Kind: Requests, To: to.HTTP, Connections: 4, Count: 100}, 100, 100 * smallBody},
		{Plan{Kind: Requests, To: to.HTTP, Connections: 4, Rate: 1000, Count: 50}, 50, 50 * smallBody},
		{Plan{Kind: Connections, To: to.HTTP, Connections: 4, Count: 30}, 30, 30 * smallBody},
		{Plan{Kind: Bulk, To: to.HTTP, Connections: 1, Bytes: 3 << 20}, 1, 3 << 20},
		{Plan{Kind: Calls, To: to.GRPC, Connections: 2, Count: 40, For: time.Minute}, 40, 40 * smallBody},
	} {
		r, err := do(tc.plan)
		if err != nil || r.Done != tc.done || r.Bytes != tc.bytes || r.P50 <= 0 || r.P50 > r.P99 || r.P99 > r.P999 || r.Seconds <= 0 {
			t.Errorf("%+v: %+v, %v", tc.plan, r, err)
		}
	}
}

// A workload that answers late makes those that wait late, too.
func TestWaitingCounts(t *testing.T) {
	const stall = 200 * time.Millisecond
	n := 0
	at := answering(t, func(c net.Conn, reply func()) {
		if n++; n == 2 { // the first is the one that opens the connection
			time.Sleep(stall)
		}
		reply()
	})
	r, err := do(Plan{Kind: Requests, To: at, Connections: 1, Rate: 1000, Count: 100})
	// All of the hundred were due within the stall, most of them half of it ago.
	if err != nil || r.P50 < 50_000 || r.P999 < float64(stall.Microseconds()) {
		t.Errorf("%+v, %v", r, err)
	}
}

// answering is a workload of one connection at a time, that does what do says
// with each request.
func answering(t *testing.T, do func(c net.Conn, reply func())) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 1024)
			for {
				if _, err := c.Read(b); err != nil {
					break
				}
				do(c, func() { c.Write(small) })
			}
			c.Close()
		}
	}()
	return ln.Addr().String()
}

// Whatever is wrong with an answer fails the run.
func TestWrongAnswers(t *testing.T) {
	changed := bytes.Clone(small)
	changed[len(changed)-1]++
	for name, tc := range map[string]struct{ answer, want string }{
		"status":   {"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "not HTTP/1.1 200"},
		"length":   {"HTTP/1.1 200 OK\r\n\r\n", "no Content-Length"},
		"negative": {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length is"},
		"long":     {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", maxHead), "longer than"},
		"body":     {string(changed), "another one than was sent"},
		"two":      {string(small) + string(small), "more came"},
		"half":     {string(small[:len(small)-1]), "ended before"},
		"none":     {"", "ended before"},
	} {
		n := 0
		at := answering(t, func(c net.Conn, reply func()) {
			if n++; n == 1 {
				reply()
				return
			}
			io.WriteString(c, tc.answer)
			c.(*net.TCPConn).CloseWrite()
		})
		if _, err := do(Plan{Kind: Requests, To: at, Connections: 1, Count: 10}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// Cut where it may be, a head is read the same.
func FuzzHead(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nA:\r\n\r\nhello"), 20)
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n"), 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		head, body, err := parseHead(b)
		if head > len(b) || head > maxHead+4 || body < 0 {
			t.Errorf("head %d, body %d of %d bytes", head, body, len(b))
		}
		if cut < 0 || cut > len(b) {
			return
		}
		if early, body2, err2 := parseHead(b[:cut]); early > 0 && (early != head || body2 != body) || err == nil && err2 != nil {
			t.Errorf("cut at %d: head %d, body %d, %v; whole: %d, %d, %v", cut, early, body2, err2, head, body, err)
		}
	})
}
