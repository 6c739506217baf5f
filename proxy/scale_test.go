package proxy

import (
	"context"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"hasp/mesh"
)

func TestLargeBothWaysThroughTheMesh(t *testing.T) {
	const size = 64 << 20
	m := newLab(t, mesh.ModeStrict, func(c *net.TCPConn) {
		var wg sync.WaitGroup
		wg.Go(func() { io.CopyN(c, zeros{}, size); c.CloseWrite() })
		io.Copy(io.Discard, c)
		wg.Wait()
	})
	c := dial(t, "127.0.0.5", m.client.outboundTo(vip))
	c.SetDeadline(time.Now().Add(2 * patience)) // 64 MiB each way
	var wg sync.WaitGroup
	wg.Go(func() {
		if n, err := io.CopyN(c, zeros{}, size); err != nil {
			t.Errorf("sent %d: %v", n, err)
		}
		c.CloseWrite()
	})
	if n, err := io.Copy(io.Discard, c); n != size || err != nil {
		t.Errorf("received %d: %v", n, err)
	}
	wg.Wait()
	if f := m.server.row(ended); f.Sent != size || f.Received != size || f.Why != "" {
		t.Errorf("row: sent %d received %d why %q", f.Sent, f.Received, f.Why)
	}
}

// A reader that stops must stop the writer: the mesh's buffers are bounded.
func TestSlowReaderThroughTheMesh(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, func(c *net.TCPConn) { io.Copy(c, zeros{}) })
	c := dial(t, "127.0.0.5", m.client.outboundTo(vip))
	f := m.server.row(func(f mesh.Connection) bool { return f.Sent > 0 })
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		next := m.server.row(func(mesh.Connection) bool { return true })
		if next.Sent == f.Sent {
			break // it stalled
		}
		if time.Now().After(end) || next.Sent > 64<<20 {
			t.Fatalf("%d MiB were taken in and nobody reads", next.Sent>>20)
		}
		f = next
	}
	c.Close()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// Ten thousand connections that say nothing; each costs this process six
// descriptors, so a low limit makes them fewer.
func TestManyIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds and gigabytes of address space")
	}
	const want, each = 10000, 6
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	raised := limit
	if raised.Cur < want*each+500 {
		raised.Cur = want*each + 500
		raised.Max = max(raised.Max, raised.Cur) // as root
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) != nil {
			raised.Max = limit.Max
			raised.Cur = limit.Max
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
				t.Fatal(err)
			}
		}
		defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
	n := min(want, int(raised.Cur-500)/each)

	m := newLab(t, mesh.ModeStrict, echo)
	at := m.client.outboundTo(vip)
	before := heap()
	conns := make([]net.Conn, n)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < n; i += 16 {
				c, err := net.Dial("tcp", at.String())
				if err != nil {
					t.Error(err)
					return
				}
				conns[i] = c
				if _, err := c.Write([]byte("x")); err != nil {
					t.Error(err)
				}
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Errorf("connection %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	if t.Failed() {
		return
	}
	held := (heap() - before) / int64(n)
	t.Logf("%d connections through two proxies hold %d KiB each", n, held>>10)
	if held > 100<<10 { // 53 KiB without the race detector, both proxies, client and workload
		t.Errorf("an idle connection holds %d KiB", held>>10)
	}
	if live := m.server.table.size(); live != n {
		t.Errorf("the table has %d rows", live)
	}
	start := time.Now()
	m.server.apply(inboundConfig(m.app.Port(), mesh.ModeStrict, mesh.TCP))
	t.Logf("asking all of them again took %v", time.Since(start))
	for _, i := range []int{0, n / 2, n - 1} {
		say(t, conns[i], "still here")
	}
	// Nobody may call any more: all are cut.
	deny := inboundConfig(m.app.Port(), mesh.ModeStrict, mesh.TCP)
	deny.Inbound.Authorization.Deny = []mesh.AuthorizationRules{{Rules: []mesh.AuthorizationRule{{}}}}
	start = time.Now()
	m.server.apply(deny)
	t.Logf("cutting all of them took %v", time.Since(start))
	for end := time.Now().Add(patience); m.server.table.size() > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("and their ends %v", time.Since(start))
	if live := m.server.table.size(); live != 0 {
		t.Errorf("%d rows are left", live)
	}
}

// heap is what is in use, stacks included.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// After all kinds of ends no descriptor is left open. (Goroutines are counted in
// TestMain.)
func TestNoDescriptorLeaks(t *testing.T) {
	m := newLab(t, mesh.ModePermissive, echo)
	at := m.client.outboundTo(vip)
	round := func() {
		for _, c := range []caller{viaSidecar, plaintext, noCert, wrongCA} {
			_, _ = c.call(t, m)
		}
		m.server.apply(inboundConfig(m.app.Port(), mesh.ModePermissive, mesh.TCP))
		c := talk(t, "127.0.0.7", m.at)
		m.server.apply(inboundConfig(m.app.Port(), mesh.ModeStrict, mesh.TCP))
		isReset(t, c)
		c.Close()
		c = talk(t, "127.0.0.5", at)
		c.Close()
		for end := time.Now().Add(patience); m.server.table.size()+m.client.table.size() > 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
	m.viaClient(t)
	before := descriptors(t)
	for range 5 {
		round()
	}
	// The lab's own listeners of viaSidecar stay until the test ends.
	if after := descriptors(t); after > before+5+2 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// When ctx ends, connections may end by themselves for the drain time; the
// health page says so meanwhile.
func TestDrain(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	n := newNode(t, m.ca, "app-ui", "127.0.0.6", func(c *Config) { c.DrainTimeout = patience })
	n.apply(outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), mesh.TCP))
	ln, health := listenOn(t, "127.0.0.6"), listenOn(t, "127.0.0.6")
	at := addrPort(ln.Addr())
	n.dst.Store(at.Port(), vip)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx, Listeners{Outbound: ln, Health: health}) }()
	c := talk(t, "127.0.0.6", at)
	cancel()
	say(t, c, "goes on")
	untilConnect(t, at.String(), false)
	until(t, "the health page says that it drains", func() bool { return n.Ready() == errDraining })
	if got, err := ask(c, "bye"); got != "bye" || err != nil {
		t.Errorf("the last words: %q, %v", got, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
