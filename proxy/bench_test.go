package proxy

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"

	"hasp/mesh"
)

// benchLab is a pair of sidecars around a workload, as the product runs them.
func benchLab(b *testing.B, proto mesh.Protocol, serve func(*net.TCPConn)) string {
	_, at := newBenchLab(b, proto, serve)
	return at
}

func newBenchLab(b *testing.B, proto mesh.Protocol, serve func(*net.TCPConn)) (*lab, string) {
	m := &lab{ca: newTestCA(b)}
	m.server, m.client = newNode(b, m.ca, "boards", "127.0.0.9"), newNode(b, m.ca, "app-ui", "127.0.0.5")
	m.app = app(b, serve)
	m.at = m.server.inboundFor(m.app)
	m.server.apply(inboundConfig(m.app.Port(), mesh.ModeStrict, proto))
	m.client.apply(outboundConfig(m.at, m.server.spiffe, istioMutual(m.server.spiffe), proto))
	return m, m.client.outboundTo(vip).String()
}

// A new connection each time: accept, dial, mutual handshake, relay, end, twice.
func BenchmarkConnection(b *testing.B) {
	at := benchLab(b, mesh.TCP, echo)
	for b.Loop() {
		c, err := net.Dial("tcp", at)
		if err != nil {
			b.Fatal(err)
		}
		if got, err := ask(c.(*net.TCPConn), "x"); got != "x" || err != nil {
			b.Fatal(got, err)
		}
		c.Close()
	}
}

// One request and response of 1 KB on a connection that stays.
func BenchmarkRequest(b *testing.B) {
	at := benchLab(b, mesh.HTTP, answer1K)
	c, err := net.Dial("tcp", at)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for b.Loop() {
		request1K(b, c, r)
	}
}

// Bulk bytes from the workload to its caller.
func BenchmarkThroughput(b *testing.B) {
	const chunk = 1 << 20
	at := benchLab(b, mesh.TCP, func(c *net.TCPConn) {
		buf := make([]byte, 64<<10)
		for {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	})
	c, err := net.Dial("tcp", at)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.SetBytes(chunk)
	buf := make([]byte, 64<<10)
	for b.Loop() {
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(c, chunk), buf); err != nil {
			b.Fatal(err)
		}
	}
}

// The policy decision, which every connection takes at least once and every
// live one again at each change of configuration.
func BenchmarkJudge(b *testing.B) {
	c := inboundConfig(8080, mesh.ModeStrict, mesh.TCP)
	c.TrustDomain = "cluster.local"
	s, err := newSettings(&c, &identity{}, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	f := mesh.Connection{Direction: mesh.InboundDir, Security: mesh.MutualTLS, PeerIdentity: identityPrefix + "app-ui"}
	b.ReportAllocs()
	for b.Loop() {
		if !decide(s, &f).Allow {
			b.Fatal("refused")
		}
	}
}

// A look at fifty thousand connections that say nothing, as is taken each
// second.
func BenchmarkLookAtSilent(b *testing.B) {
	n := newNode(b, newTestCA(b), "boards", "127.0.0.9")
	for range 50_000 {
		n.table.open(mesh.OutboundDir, nil, time.Now().Add(-time.Minute))
	}
	f := n.Facts()
	for len(f.Report(false).Connections) > 0 {
	}
	b.ReportAllocs()
	for b.Loop() {
		f.Report(false)
	}
	for _, r := range n.table.rows() {
		n.table.close(r, nil, false)
	}
}
