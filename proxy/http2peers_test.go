package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"hasp/mesh"
)

// outcomes is what a node counted of requests: protocol, code, flags, gRPC
// status and how many.
func (n *node) outcomes(t *testing.T) (out []string) {
	for _, line := range samples(scrape(t, n), "istio_requests_total") {
		m := regexp.MustCompile(`grpc_response_status="(.*?)".*request_protocol="(.*?)".*response_code="(.*?)".*response_flags="(.*?)".* (\d+)$`).FindStringSubmatch(line)
		out = append(out, fmt.Sprintf("%s %s %s status=%s x%s", m[2], m[3], m[4], m[1], m[5]))
	}
	slices.Sort(out)
	return out
}

// counted waits until both ends have counted the same requests, and both ledgers
// and tables too.
func (m *lab) counted(t *testing.T, errors uint64, want ...string) {
	t.Helper()
	slices.Sort(want)
	var total uint64
	for _, w := range want {
		var n uint64
		fmt.Sscanf(w[strings.LastIndexByte(w, 'x'):], "x%d", &n)
		total += n
	}
	for _, n := range []*node{m.client, m.server} {
		n.row(func(c mesh.Connection) bool { return ended(c) && c.Requests == total && c.Errors == errors })
		if diff := cmp.Diff(want, n.outcomes(t)); diff != "" {
			t.Errorf("%s: metrics (-want +got):\n%s", n.spiffe, diff)
		}
		if e := n.edges(1)[0]; e.Requests != total || e.Errors != errors {
			t.Errorf("%s: %d requests in the ledger, %d of them failed", n.spiffe, e.Requests, e.Errors)
		}
		if got := samples(scrape(t, n), "istio_tcp_connections_opened_total"); got != nil {
			t.Errorf("counted as TCP too: %s", got)
		}
	}
}

// serveGRPC is a workload with the health service.
func serveGRPC(t *testing.T) (netip.AddrPort, *grpchealth.Server) {
	ln := listenOn(t, "127.0.0.1")
	s, h := grpc.NewServer(), grpchealth.NewServer()
	healthpb.RegisterHealthServer(s, h)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(ln); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return addrPort(ln.Addr()), h
}

func dialGRPC(t *testing.T, at netip.AddrPort) (*grpc.ClientConn, healthpb.HealthClient) {
	cc, err := grpc.NewClient("passthrough:///"+at.String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc, healthpb.NewHealthClient(cc)
}

func TestGRPCOfRealPeers(t *testing.T) {
	for _, protocol := range []mesh.Protocol{mesh.GRPC, mesh.HTTP2, mesh.HTTP} {
		at, _ := serveGRPC(t)
		m := bothEnds(t, protocol, at)
		cc, c := dialGRPC(t, m.client.outboundTo(vip))
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		for range 20 {
			if _, err := c.Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Check(ctx, &healthpb.HealthCheckRequest{Service: strings.Repeat("x", 20_000)}); status.Code(err) != codes.NotFound {
			t.Fatal(err)
		}
		if err := cc.Invoke(ctx, "/shop.Boards/List", &healthpb.HealthCheckRequest{}, new(healthpb.HealthCheckResponse)); status.Code(err) != codes.Unimplemented {
			t.Fatal(err)
		}
		watching, stop := context.WithCancel(ctx)
		stream, err := c.Watch(watching, &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		stop()
		if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
			t.Fatal(err)
		}
		if _, err := c.Check(ctx, &healthpb.HealthCheckRequest{}); err != nil { // so that the reset has passed
			t.Fatal(err)
		}
		cc.Close()
		m.counted(t, 1, "grpc 200 - status=0 x21", "grpc 200 - status=5 x1", "grpc 200 - status=12 x1", "grpc 200 DR status= x1")
	}
}

// serveH2C is a workload of net/http that speaks HTTP/2 without TLS.
func serveH2C(t *testing.T, h http.HandlerFunc) netip.AddrPort {
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.Protocols.SetHTTP1(true)
	s.Start()
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

func clientH2C(t *testing.T) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestHTTP2OfRealPeers(t *testing.T) {
	m := bothEnds(t, mesh.HTTP, serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			w.WriteHeader(500)
		}
		io.Copy(w, r.Body)
	}))
	at, c := m.client.outboundTo(vip), clientH2C(t)
	body := bytes.Repeat([]byte("x"), 300_000) // more than its windows
	for _, path := range []string{"/", "/broken"} {
		res, err := c.Post("http://"+at.String()+path, "text/plain", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(res.Body); !bytes.Equal(got, body) || err != nil || res.ProtoMajor != 2 {
			t.Fatal(len(got), err, res.Proto)
		}
		res.Body.Close()
	}
	c.CloseIdleConnections()
	m.counted(t, 1, "http 200 - status= x1", "http 500 - status= x1")
	for _, n := range []*node{m.client, m.server} {
		for _, name := range []string{"istio_request_bytes_sum", "istio_response_bytes_sum"} {
			for _, s := range samples(scrape(t, n), name) {
				var bytes float64
				if fmt.Sscan(s[strings.LastIndexByte(s, ' '):], &bytes); bytes < 300_000 || bytes > 301_000 {
					t.Errorf("%s", s)
				}
			}
		}
	}
}

// HTTP/1 on a port that is named for HTTP/2 is seen too.
func TestHTTP1OnAPortOfHTTP2(t *testing.T) {
	m := bothEnds(t, mesh.HTTP2, serveH2C(t, func(w http.ResponseWriter, r *http.Request) {}))
	if got, err := call(t, "127.0.0.5", m.client.outboundTo(vip), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200") || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	m.counted(t, 0, "http 200 - status= x1")
}

// What is no HTTP at all counts as TCP, whatever the port is called.
func TestTCPOnAPortOfGRPC(t *testing.T) {
	m := bothEnds(t, mesh.GRPC, app(t, func(c *net.TCPConn) { greeter(c) }))
	if got, err := call(t, "127.0.0.5", m.client.outboundTo(vip), "HELO x\n"); got != "220 hello\nHELO x\n" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	for _, n := range []*node{m.client, m.server} {
		n.row(ended)
		until(t, "it is counted", func() bool { return len(samples(scrape(t, n), "istio_tcp_connections_closed_total")) == 1 })
		if got := samples(scrape(t, n), "istio_tcp_sent_bytes_total"); len(got) != 1 || !strings.Contains(got[0], `request_protocol="tcp"`) || !strings.HasSuffix(got[0], " 17") {
			t.Errorf("%q", got)
		}
	}
}
