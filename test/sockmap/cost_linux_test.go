package sockmap

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hasp/capture"
)

// BenchmarkLeg prints what the leg between an application and its sidecar costs
// the two together, for each way to carry it. An iteration is a round of all of
// them, and each round begins with another one:
//
//	go test ./test/sockmap -run '^$' -bench Leg -benchtime 9x
func BenchmarkLeg(b *testing.B) {
	need(b)
	removeWire := wire(b)
	defer removeWire()
	got := map[string][]cost{}
	round := 0
	for b.Loop() {
		for i := range ways {
			w := ways[(i+round)%len(ways)]
			got[w.name] = append(got[w.name], w.measure(b))
		}
		round++
	}
	b.ReportMetric(0, "ns/op")                              // a round says nothing
	fmt.Printf("%d rounds, medians\n%s", round, table(got)) // b.Log shortens it
}

// way is one way to carry the leg.
type way struct {
	name     string
	captured bool // by capture's REDIRECT, as in a pod
	sockmap  *Options
	congest  string // TCP_CONGESTION
	busy     bool   // SO_BUSY_POLL
	quick    bool   // TCP_QUICKACK after each read
}

var ways = []way{
	{name: "captured", captured: true}, // the product; the others are compared with it
	{name: "captured, sockmap", captured: true, sockmap: &Options{}},
	{name: "captured, sockmap one way", captured: true, sockmap: &Options{OneWay: true}},
	{name: "captured, reno", captured: true, congest: "reno"},
	{name: "captured, cubic", captured: true, congest: "cubic"},
	{name: "captured, busy polling", captured: true, busy: true},
	{name: "captured, quick ACKs", captured: true, quick: true},
	{name: "not captured"},
	{name: "not captured, sockmap", sockmap: &Options{}},
}

// cost is the time of both ends together: their own, and the kernel's in their
// system calls.
type cost struct {
	request    time.Duration // CPU, 32 connections that never wait
	answer     time.Duration // until it is there, half of the time, one connection
	connection time.Duration // CPU of one that carries one request
	gigabyte   time.Duration // CPU
}

const payload = 1 << 10

func (w way) measure(b *testing.B) cost {
	b.Helper()
	if w.sockmap != nil {
		defer load(b, *w.sockmap)()
	}
	l := &leg{way: w, B: b, to: "127.0.0.1:15001"}
	if w.captured {
		l.to = beyond
		defer capturing(b)()
	}
	var err error
	l.sidecar, err = (&net.ListenConfig{Control: w.control}).Listen(context.Background(), "tcp", "127.0.0.1:15001")
	if err != nil {
		b.Fatal(err)
	}
	defer l.sidecar.Close()
	return cost{request: l.saturated(), answer: l.latency(), connection: l.short(), gigabyte: l.bulk()}
}

// capturing applies the rules of a pod until end.
func capturing(b *testing.B) (end func()) {
	b.Helper()
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		b.Fatal(err)
	}
	if err := capture.Apply(int(ns.Fd()), capture.Spec{OutboundPort: 15001, InboundPort: 15006, ExemptMark: 1}); err != nil {
		b.Fatal(err)
	}
	return func() {
		if err := capture.Remove(int(ns.Fd())); err != nil {
			b.Error(err)
		}
		ns.Close()
	}
}

func (w way) control(_, _ string, c syscall.RawConn) (err error) {
	c.Control(func(fd uintptr) {
		if w.congest != "" {
			err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, w.congest)
		}
		if w.busy && err == nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BUSY_POLL, 50)
		}
	})
	return err
}

// leg is a way while it is measured.
type leg struct {
	way
	*testing.B
	sidecar net.Listener
	to      string
}

// dial makes a connection; app and sidecar are its ends.
func (l *leg) dial() (app, sidecar net.Conn) {
	app, err := (&net.Dialer{Control: l.control}).Dial("tcp", l.to)
	if err != nil {
		l.Fatal(err)
	}
	if sidecar, err = l.sidecar.Accept(); err != nil {
		l.Fatal(err)
	}
	return app, sidecar
}

// echo is the sidecar.
func (l *leg) echo(c net.Conn) {
	defer c.Close()
	p := make([]byte, 64<<10)
	for {
		n, err := c.Read(p)
		if err != nil {
			return
		}
		l.read(c)
		if _, err := c.Write(p[:n]); err != nil {
			return
		}
	}
}

// ask is a request of the app.
func (l *leg) ask(c net.Conn, p []byte) bool {
	_, err := c.Write(p)
	if err == nil {
		_, err = io.ReadFull(c, p)
	}
	if err != nil {
		l.Error(err)
		return false
	}
	l.read(c)
	return true
}

// read is what either does when it has read.
func (l *leg) read(c net.Conn) {
	if !l.quick {
		return
	}
	if rc, err := c.(*net.TCPConn).SyscallConn(); err == nil {
		rc.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
	}
}

func (l *leg) saturated() time.Duration {
	const connections, requests = 32, 1500
	var apps, sidecars sync.WaitGroup
	var open []net.Conn
	for range connections {
		app, sidecar := l.dial()
		open = append(open, app)
		sidecars.Go(func() { l.echo(sidecar) })
	}
	start := cpu()
	for _, c := range open {
		apps.Go(func() {
			defer c.Close()
			p := make([]byte, payload)
			for n := 0; n < requests && l.ask(c, p); n++ {
			}
		})
	}
	apps.Wait()
	spent := cpu() - start
	sidecars.Wait()
	return spent / (connections * requests)
}

func (l *leg) latency() time.Duration {
	app, sidecar := l.dial()
	var echo sync.WaitGroup
	echo.Go(func() { l.echo(sidecar) })
	took := make([]time.Duration, 3000)
	p := make([]byte, payload)
	for i := range took {
		start := time.Now()
		if !l.ask(app, p) {
			break
		}
		took[i] = time.Since(start)
	}
	app.Close()
	echo.Wait()
	return median(took)
}

func (l *leg) short() time.Duration {
	const connections = 1000
	p := make([]byte, payload)
	start := cpu()
	for range connections {
		app, sidecar := l.dial()
		var echo sync.WaitGroup
		echo.Go(func() { l.echo(sidecar) })
		l.ask(app, p)
		app.Close()
		echo.Wait()
	}
	return (cpu() - start) / connections
}

func (l *leg) bulk() time.Duration {
	const total = 256 << 20
	app, sidecar := l.dial()
	defer sidecar.Close()
	start := cpu()
	go func() {
		defer app.Close()
		p := make([]byte, 64<<10)
		for range total / len(p) {
			if _, err := app.Write(p); err != nil {
				l.Error(err)
				return
			}
		}
	}()
	// Not io.Discard alone: its buffer is small.
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{sidecar}, make([]byte, 64<<10))
	if n != total || err != nil {
		l.Errorf("%d bytes of %d came: %v", n, total, err)
	}
	return (cpu() - start) * (1 << 30) / total
}

// cpu that this process has used.
func cpu() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

// table has the medians, each with its ratio to that of the first way.
func table(got map[string][]cost) string {
	columns := []struct {
		name string
		of   func(cost) time.Duration
	}{
		{"CPU a request", func(c cost) time.Duration { return c.request }},
		{"p50", func(c cost) time.Duration { return c.answer }},
		{"CPU a connection", func(c cost) time.Duration { return c.connection }},
		{"CPU a GB", func(c cost) time.Duration { return c.gigabyte }},
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%-28s", "1 KB there and back")
	for _, c := range columns {
		fmt.Fprintf(&out, "%20s", c.name)
	}
	for _, w := range ways {
		fmt.Fprintf(&out, "\n%-28s", w.name)
		for _, c := range columns {
			of := func(name string) time.Duration {
				var all []time.Duration
				for _, one := range got[name] {
					all = append(all, c.of(one))
				}
				return median(all)
			}
			d := of(w.name)
			fmt.Fprintf(&out, "%13v x%.2f", d.Round(d/100), float64(d)/float64(of(ways[0].name)))
		}
	}
	return out.String() + "\n"
}
