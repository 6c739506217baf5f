package client_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"hasp/mesh"
	"hasp/xds"
	"hasp/xds/client"
	"hasp/xds/server"
)

// heard is what a control plane was told.
type heard struct {
	events chan string // "shop/boards-1 reports", "shop/boards-1 is gone"
	mu     sync.Mutex
	last   map[string]*mesh.Report
	taken  int
}

func newHeard() *heard {
	return &heard{events: make(chan string, 10_000), last: map[string]*mesh.Report{}}
}

func (h *heard) take(node string, _ spiffeid.ID, r *mesh.Report) error {
	h.mu.Lock()
	h.last[node] = r
	h.taken++
	h.mu.Unlock()
	h.events <- node + " reports"
	return nil
}

func (h *heard) gone(node string) { h.events <- node + " is gone" }

func (h *heard) lastOf(node string) *mesh.Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last[node]
}

// until waits for events in any order, and for no others.
func (h *heard) until(t *testing.T, events ...string) {
	t.Helper()
	for len(events) > 0 {
		select {
		case got := <-h.events:
			before := len(events)
			for i, want := range events {
				if got == want {
					events = append(events[:i], events[i+1:]...)
					break
				}
			}
			if len(events) == before {
				t.Fatalf("%s; want %q", got, events)
			}
		case <-time.After(patience):
			t.Fatalf("not in time: %q", events)
		}
	}
}

// seen is a source of reports.
type seen struct {
	changed chan struct{}
	mu      sync.Mutex
	next    mesh.Report
	asked   int
}

func newSeen() *seen { return &seen{changed: make(chan struct{}, 1)} }

func (s *seen) Changed() <-chan struct{} { return s.changed }

func (s *seen) Report(bool) *mesh.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	r := s.next
	return &r
}

// has is what the next report tells.
func (s *seen) has(connections ...mesh.Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = mesh.Report{At: time.Unix(1, 0).UTC(), Generation: 7, Connections: connections}
}

func (s *seen) set(connections ...mesh.Connection) {
	s.has(connections...)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *seen) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// reporter runs a Reporter with a certificate of the plane's authority.
func (p *plane) reporter(node string, id spiffeid.ID, src client.ReportSource) (stop func()) {
	p.t.Helper()
	r, err := client.NewReporter(client.ReporterConfig{Target: p.addr, Node: node, TLS: p.tls(id), Log: p.log, Source: src})
	if err != nil {
		p.t.Fatal(err)
	}
	r.SetEvery(time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	var eg errgroup.Group
	eg.Go(func() error { return r.Run(ctx) })
	stop = sync.OnceFunc(func() { cancel(); _ = eg.Wait() })
	p.t.Cleanup(stop)
	return stop
}

func (p *plane) tls(id spiffeid.ID) func() *tls.Config {
	p.t.Helper()
	cert, err := p.ca.Issue(id, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	return func() *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*cert}}
	}
}

func newHearing(t *testing.T) *plane {
	t.Helper()
	p := newPlane(t)
	p.stop()
	p.heard = newHeard()
	p.start(p.addr)
	return p
}

func connection(id uint64) mesh.Connection {
	return mesh.Connection{ID: id, Direction: mesh.InboundDir, Source: netip.MustParseAddrPort("10.77.0.1:40000"), Security: mesh.MutualTLS, Failure: &mesh.Failure{Stage: "policy"}}
}

// Two proxies report: first all, then what changed, at the end what is left.
func TestReports(t *testing.T) {
	p := newHearing(t)
	nodes := []string{"shop/boards-1", "shop/boards-2"}
	var stops []func()
	var sources []*seen
	for i, node := range nodes {
		p.set(1, config(node, boards))
		src := newSeen()
		src.has(connection(uint64(i))) // the first report needs no change
		sources, stops = append(sources, src), append(stops, p.reporter(node, boards, src))
	}
	p.heard.until(t, "shop/boards-1 reports", "shop/boards-2 reports")
	want := func(node string, whole bool, id uint64) {
		t.Helper()
		w := &mesh.Report{Node: node, Identity: boards.String(), At: time.Unix(1, 0).UTC(), Generation: 7, Whole: whole, Connections: []mesh.Connection{connection(id)}}
		if d := cmp.Diff(w, p.heard.lastOf(node), cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
			t.Error(d)
		}
	}
	want("shop/boards-1", true, 0)
	want("shop/boards-2", true, 1)
	sources[1].set(connection(2))
	p.heard.until(t, "shop/boards-2 reports")
	want("shop/boards-2", false, 2)

	// It ends with a last report.
	sources[0].has(connection(3))
	stops[0]()
	p.heard.until(t, "shop/boards-1 reports")
	p.heard.until(t, "shop/boards-1 is gone")
	want("shop/boards-1", false, 3)
}

// A control plane that comes back is told everything.
func TestReportsAgain(t *testing.T) {
	p := newHearing(t)
	p.set(1, config("shop/boards-1", boards))
	src := newSeen()
	p.reporter("shop/boards-1", boards, src)
	p.heard.until(t, "shop/boards-1 reports")
	p.stop()
	p.heard.until(t, "shop/boards-1 is gone")
	p.start(p.addr)
	p.heard.until(t, "shop/boards-1 reports")
	if !p.heard.lastOf("shop/boards-1").Whole {
		t.Error("the first report is not whole")
	}
}

// Who reports may speak for its own workload only.
func TestReportsRefused(t *testing.T) {
	p := newHearing(t)
	p.set(1, config("shop/boards-1", boards))
	for _, tt := range []struct {
		node string
		id   spiffeid.ID
		want string
	}{
		{"shop/boards-1", rogue, "PermissionDenied desc = the workload is not this identity's: shop/boards-1 is " + boards.String()},
		{"shop/nobody-1", boards, "NotFound desc = there is no such workload: shop/nobody-1"},
		{"boards-1", boards, "InvalidArgument desc = node.id must be NAMESPACE/NAME of the workload"},
	} {
		t.Run(tt.node+" as "+tt.id.Path(), func(t *testing.T) {
			log := newLogged("reports are not taken")
			q := *p
			q.t, q.log = t, slog.New(slog.NewTextHandler(log, nil))
			q.reporter(tt.node, tt.id, newSeen())
			log.wait(t)
			if !strings.Contains(log.String(), tt.want) {
				t.Errorf("got  %s\nwant %s", log.String(), tt.want)
			}
		})
	}
	if p.heard.taken != 0 {
		t.Errorf("%d reports were taken", p.heard.taken)
	}
}

// logged is a log in which something is waited for.
type logged struct {
	lockedBuffer
	what string
	got  chan struct{}
	once sync.Once
}

func newLogged(what string) *logged { return &logged{what: what, got: make(chan struct{})} }

func (l *logged) Write(b []byte) (int, error) {
	n, err := l.lockedBuffer.Write(b)
	if strings.Contains(string(b), l.what) {
		l.once.Do(func() { close(l.got) })
	}
	return n, err
}

func (l *logged) wait(t *testing.T) {
	t.Helper()
	select {
	case <-l.got:
	case <-time.After(patience):
		t.Fatalf("not in time: %s; log:\n%s", l.what, l.String())
	}
}

// An older control plane takes no reports, and is left alone.
func TestReportsUnimplemented(t *testing.T) {
	p := newPlane(t)
	log := newLogged("reports are not taken")
	p.log = slog.New(slog.NewTextHandler(log, nil))
	p.reporter("shop/boards-1", boards, newSeen())
	log.wait(t)
	if !strings.Contains(log.String(), "level=INFO") || !strings.Contains(log.String(), "retry=5m0s") {
		t.Error(log.String())
	}
}

// deaf is a control plane that takes a stream and never reads it.
type deaf struct {
	alsv3.UnimplementedAccessLogServiceServer
}

func (deaf) StreamAccessLogs(s alsv3.AccessLogService_StreamAccessLogsServer) error {
	<-s.Context().Done()
	return nil
}

// What a control plane does not read is not made: the source sums it up, and the
// proxy can end.
func TestReportsUnread(t *testing.T) {
	p := newPlane(t)
	self, err := p.ca.Server(istiod)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(server.Options(self)...)
	alsv3.RegisterAccessLogServiceServer(g, deaf{})
	var eg errgroup.Group
	eg.Go(func() error { return g.Serve(ln) })
	t.Cleanup(func() { g.Stop(); eg.Wait() })
	p.addr = ln.Addr().String()

	src := newSeen()
	stop := p.reporter("shop/boards-1", boards, src)
	big := make([]mesh.Connection, 500)
	for i := range big {
		big[i] = connection(uint64(i))
		big[i].Why = strings.Repeat("x", 1000)
	}
	for deadline := time.Now().Add(patience); src.count() < 2; runtime.Gosched() {
		src.set(big...)
		if time.Now().After(deadline) {
			t.Fatal("no second report in time")
		}
	}
	stop()
	if n := src.count(); n > 5 {
		t.Errorf("%d reports were made for nobody", n)
	}
}

// A proxy that reports as fast as it can waits: what it sends is not kept.
func TestReportsInABurst(t *testing.T) {
	p := newHearing(t)
	p.set(1, config("shop/boards-1", boards))
	conn, err := grpc.NewClient(p.addr, grpc.WithTransportCredentials(credentials.NewTLS(p.tls(boards)())))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := alsv3.NewAccessLogServiceClient(conn).StreamAccessLogs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r := &mesh.Report{Node: "shop/boards-1"}
	for i := range 800 {
		c := connection(uint64(i))
		c.Why = strings.Repeat("x", 1000)
		r.Connections = append(r.Connections, c)
	}
	m, err := xds.EncodeReport(r)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	sent := make(chan int, 1)
	go func() {
		n := 0
		for ; n < 1000 && stream.Send(m[0]) == nil; n++ {
		}
		sent <- n
	}()
	for range 23 { // all that it may at once, and a little more
		p.heard.until(t, "shop/boards-1 reports")
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	cancel()
	conn.Close()
	n := <-sent
	p.stop()
	if n > p.heard.taken+5 {
		t.Errorf("%d were sent, %d taken", n, p.heard.taken)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 64<<20 {
		t.Errorf("%d MiB more are in use", grown>>20)
	}
}
