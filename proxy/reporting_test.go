package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"hasp/mesh"
	"hasp/xds"
)

// BenchmarkReporting tells what it costs that the proxies know and report what
// they carry: ledger, choice of connections, reports as they travel. The same
// traffic runs in turns through two sidecars that do, through two that do not,
// and through none. "x" is the CPU time of the two sidecars with reporting as a
// multiple of that without; that of the client and of the workload is taken off
// both. The least and the greatest of the turns tell how far to trust it.
//
// Both proxies report after each 4000 requests or 300 connections; in service
// that is once a second at most, and about more.
func BenchmarkReporting(b *testing.B) {
	b.Run("requests", func(b *testing.B) {
		benchReporting(b, mesh.HTTP, answer1K, 4000, func(at string) (func(), func()) {
			c, err := net.Dial("tcp", at)
			if err != nil {
				b.Fatal(err)
			}
			r := bufio.NewReader(c)
			return func() { request1K(b, c, r) }, func() { c.Close() }
		})
	})
	b.Run("connections", func(b *testing.B) {
		benchReporting(b, mesh.TCP, echo, 300, func(at string) (func(), func()) {
			return func() {
				c, err := net.Dial("tcp", at)
				if err != nil {
					b.Fatal(err)
				}
				if got, err := ask(c.(*net.TCPConn), "x"); got != "x" || err != nil {
					b.Fatal(got, err)
				}
				c.Close()
			}, func() {}
		})
	})
}

func benchReporting(b *testing.B, protocol mesh.Protocol, serve func(*net.TCPConn), each int, client func(at string) (do, end func())) {
	const idle = 200
	on, onAt := reportingLab(b, protocol, serve, idle, true)
	_, offAt := reportingLab(b, protocol, serve, idle, false)
	const turns = 20 // short ones: what else the machine does is then the same in all
	var do [3]func()
	for i, at := range []string{onAt, offAt, app(b, serve).String()} {
		var end func()
		do[i], end = client(at)
		defer end()
		do[i]()
	}
	report := func() time.Duration {
		start := cpuTime(b)
		for _, n := range []*node{on.client, on.server} {
			tell(b, n.Facts().Report(false))
		}
		return cpuTime(b) - start
	}
	report() // of the connections that say nothing
	var turn [3][]time.Duration
	var ratios []float64
	var reports time.Duration
	for b.Loop() {
		var took [3]time.Duration
		for i := range turns {
			for j := range do {
				k := (i + j) % len(do) // whoever is first has it no better
				start := cpuTime(b)
				for range each / turns {
					do[k]()
				}
				d := cpuTime(b) - start
				turn[k] = append(turn[k], d)
				took[k] += d
			}
		}
		d := report()
		reports += d
		ratios = append(ratios, float64(took[0]+d-took[2])/float64(took[1]-took[2]))
	}
	// The median of the turns, since the machine may have been busy with others.
	share := reports / time.Duration(len(turn[0]))
	with, without, none := median(turn[0])+share, median(turn[1]), median(turn[2])
	slices.Sort(ratios)
	n := float64(each / turns)
	b.ReportMetric(0, "ns/op") // says nothing here
	b.ReportMetric(float64((with-none).Nanoseconds())/1000/n, "µs-on")
	b.ReportMetric(float64((without-none).Nanoseconds())/1000/n, "µs-off")
	b.ReportMetric(float64(with-none)/float64(without-none), "x")
	b.ReportMetric(ratios[0], "x-min")
	b.ReportMetric(ratios[len(ratios)-1], "x-max")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// reportingLab is a benchLab with connections that live and say nothing.
func reportingLab(b *testing.B, protocol mesh.Protocol, serve func(*net.TCPConn), idle int, reporting bool) (*lab, string) {
	m, at := newBenchLab(b, protocol, serve)
	if !reporting {
		m.client.ledger, m.server.ledger = nil, nil
	}
	for range idle {
		c, err := net.Dial("tcp", at)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
	}
	until(b, "all connections live", func() bool { return m.server.table.size() == idle })
	return m, at
}

// tell makes of a report what travels.
func tell(b *testing.B, r *mesh.Report) {
	messages, err := xds.EncodeReport(r)
	if err != nil {
		b.Fatal(err)
	}
	for _, m := range messages {
		if _, err := proto.Marshal(m); err != nil {
			b.Fatal(err)
		}
	}
}

// cpuTime is what this process has used, in and out of the kernel.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// answer1K answers each request with 1 KB.
func answer1K(c *net.TCPConn) {
	r := bufio.NewReader(c)
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n%01024d", 0)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body)
		io.WriteString(c, answer)
	}
}

func request1K(b *testing.B, c net.Conn, r *bufio.Reader) {
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: boards:8080\r\n\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		b.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
}
