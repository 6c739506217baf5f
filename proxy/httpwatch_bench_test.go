package proxy

import (
	"fmt"
	"strings"
	"testing"

	"hasp/mesh"
)

// request1KB and response1KB are what a browser and an application say, of about
// a kilobyte each.
var (
	request1KB = []byte("GET /api/boards/1234?expand=members HTTP/1.1\r\nHost: boards.shop.svc.cluster.local:8080\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\nAccept: application/json, text/plain, */*\r\n" +
		"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nX-Request-Id: 6b5e8f0c-0d0a-4b8e-9b0e-2a6d5f3c1e77\r\n" +
		"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nCookie: session=" + strings.Repeat("k", 500) + "\r\n\r\n")
	response1KB = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 860\r\nDate: Sun, 29 Nov 2026 22:00:00 GMT\r\n"+
		"Cache-Control: no-store\r\nServer: boards\r\n\r\n%0860d", 0)
)

// benchRow is a connection of a proxy that counts as in service, with no sockets.
func benchRow(tb testing.TB, proto mesh.Protocol) (*Proxy, *row) {
	n := newNode(tb, newTestCA(tb), "boards", "127.0.0.9")
	n.apply(inboundConfig(8080, mesh.ModeStrict, proto))
	r := n.table.open(mesh.InboundDir, nil, n.cfg.Now())
	r.set(func(f *mesh.Connection) {
		f.Protocol, f.Security, f.Service, f.Allowed = proto, mesh.MutualTLS, boardsHost, true
		f.PeerIdentity, f.PeerWorkload = identityPrefix+"app-ui", "shop/app-ui-6fcd58479d-4kq8v"
	})
	n.count(r)
	tb.Cleanup(func() { n.table.close(r, nil, false) })
	return n.Proxy, r
}

// An HTTP/1.1 request and its response, seen, counted and entered in the ledger.
func BenchmarkHTTPWatch(b *testing.B) {
	p, r := benchRow(b, mesh.HTTP)
	o := p.observe(r, p.metrics.identify(r, p.settings.Load()))
	b.SetBytes(int64(len(request1KB) + len(response1KB)))
	b.ReportAllocs()
	start := cpuTime(b)
	for b.Loop() {
		o.FromClient(request1KB)
		o.FromUpstream(response1KB)
	}
	b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N), "cpu-ns/op")
	if n := o.http.requests(); n != uint64(b.N) {
		b.Fatalf("saw %d requests of %d", n, b.N)
	}
}

// What an idle connection's observer keeps, in bytes, after an exchange.
func BenchmarkIdleWatch(b *testing.B) {
	for _, tc := range []struct {
		name string
		talk func(o *observer)
	}{
		{"http1", func(o *observer) {
			o.FromClient(request1KB[:100]) // a line in two pieces
			o.FromClient(request1KB[100:])
			o.FromUpstream(response1KB)
		}},
		{"grpc", func(o *observer) {
			k := newTalk2()
			k.call(1, true)
			k.answer(1, "0")
			o.FromClient(k.client.take())
			o.FromUpstream(k.server.take())
		}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			p, r := benchRow(b, mesh.GRPC)
			se := p.metrics.identify(r, p.settings.Load())
			tc.talk(p.observe(r, se))
			const n = 5000
			all := make([]*observer, n)
			for b.Loop() {
				before := heap()
				for i := range all {
					all[i] = p.observe(r, se)
					tc.talk(all[i])
				}
				b.ReportMetric(float64(heap()-before)/n, "B/conn")
				if o := all[n-1].http; o.requests() != 1 || o.stopped() {
					b.Fatal("it saw nothing")
				}
				clear(all)
			}
			b.ReportMetric(0, "ns/op") // says nothing here
		})
	}
}
