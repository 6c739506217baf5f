package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"testing"
	"time"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"hasp/mesh"
	"hasp/xds"
)

// hearing is a fixture that takes reports, one at a time, of boards only.
type hearing struct {
	*fixture
	events    chan string
	mayReport func() error // if not nil, asked last
}

func newHearing(t *testing.T, cfg Config) *hearing {
	h := &hearing{events: make(chan string, 100)}
	cfg.MayReport = func(n string, peer spiffeid.ID) error {
		switch {
		case n != node:
			return fmt.Errorf("%w: %s", ErrNotFound, n)
		case peer != boards:
			return fmt.Errorf("%w: %s", ErrDenied, peer)
		case h.mayReport != nil:
			return h.mayReport()
		}
		return nil
	}
	cfg.Reports = func(n string, peer spiffeid.ID, r *mesh.Report) error {
		if r.Generation == 13 {
			return errors.New("an edge of another's")
		}
		h.events <- fmt.Sprint(n, " ", r.Node == n && r.Identity == peer.String() && !r.At.IsZero(), " ", r.Generation)
		return nil
	}
	cfg.Gone = func(n string) { h.events <- n + " is gone" }
	h.fixture = newFixture(t, cfg)
	return h
}

func (h *hearing) open(ctx context.Context, id spiffeid.ID) accesslog.AccessLogService_StreamAccessLogsClient {
	h.t.Helper()
	return h.over(ctx, h.client(id))
}

func (h *hearing) over(ctx context.Context, c accesslog.AccessLogServiceClient) accesslog.AccessLogService_StreamAccessLogsClient {
	h.t.Helper()
	s, err := c.StreamAccessLogs(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// client is a connection.
func (h *hearing) client(id spiffeid.ID) accesslog.AccessLogServiceClient {
	h.t.Helper()
	cert, err := h.ca.Issue(id, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	conn, err := grpc.NewClient(h.addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*cert}})))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	return accesslog.NewAccessLogServiceClient(conn)
}

func (h *hearing) next(want string) {
	h.t.Helper()
	select {
	case got := <-h.events:
		if got != want {
			h.t.Fatalf("got %s, want %s", got, want)
		}
	case <-limit(h.t).Done():
		h.t.Fatalf("not in time: %s", want)
	}
}

func report(t *testing.T, name string, generation uint64) *accesslog.StreamAccessLogsMessage {
	t.Helper()
	m, err := xds.EncodeReport(&mesh.Report{Node: name, Generation: generation})
	if err != nil {
		t.Fatal(err)
	}
	return m[0]
}

// raw is a message of any bytes.
func raw(t *testing.T, b []byte) *emptypb.Empty {
	t.Helper()
	var m emptypb.Empty
	m.ProtoReflect().SetUnknown(b)
	return &m
}

// A node has one stream that counts, the newest, and its end is told after all
// that it said.
func TestNewerReportsWin(t *testing.T) {
	h := newHearing(t, Config{})
	ctx := limit(t)
	first := h.open(ctx, boards)
	first.Send(report(t, node, 1))
	h.next(node + " true 1")
	second := h.open(ctx, boards)
	second.Send(report(t, node, 2))
	h.next(node + " true 2") // and nobody was gone between
	if _, err := first.CloseAndRecv(); status.Code(err) != codes.Aborted {
		t.Error(err)
	}
	second.Send(report(t, "", 3)) // an Envoy names itself once
	h.next(node + " true 3")
	if _, err := second.CloseAndRecv(); err != nil {
		t.Error(err)
	}
	h.next(node + " is gone")
}

func TestReportsEnd(t *testing.T) {
	large := protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), make([]byte, xds.MaxReportBytes))
	for _, tt := range []struct {
		name  string
		id    spiffeid.ID
		first string // node; empty sends none
		then  any
		want  string
		gone  bool
	}{
		{"another identity", istiod, node, nil, "PermissionDenied the workload is not this identity's: " + istiod.String(), false},
		{"no such workload", boards, "shop/nobody-1", nil, "NotFound there is no such workload: shop/nobody-1", false},
		{"no node", boards, "", report(t, "", 1), "InvalidArgument node.id must be NAMESPACE/NAME of the workload", false},
		{"garbage first", boards, "", raw(t, []byte{0x1a, 2, 0x0a, 9}), "InvalidArgument xds: report: unexpected EOF", false},
		{"garbage then", boards, node, raw(t, []byte{0x1a, 2, 0x0a, 9}), "InvalidArgument xds: report: unexpected EOF", true},
		{"too large", boards, node, raw(t, large), "ResourceExhausted a message has 4194309 bytes, the limit is 4194304", true},
		{"for another node", boards, node, report(t, "shop/boards-2", 1), "InvalidArgument this stream is of shop/boards-1", true},
		{"what is not its own", boards, node, report(t, node, 13), "InvalidArgument an edge of another's", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHearing(t, Config{})
			s := h.open(limit(t), tt.id)
			if tt.first != "" {
				s.Send(report(t, tt.first, 1))
			}
			if tt.then != nil {
				s.SendMsg(tt.then)
			}
			_, err := s.CloseAndRecv()
			if got := status.Code(err).String() + " " + status.Convert(err).Message(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if tt.gone {
				h.next(node + " true 1")
				h.next(node + " is gone")
			}
			if len(h.events) != 0 {
				t.Error(<-h.events)
			}
		})
	}
}

func TestReportsOfNobody(t *testing.T) {
	h := newHearing(t, Config{})
	conn, err := grpc.NewClient(h.addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s, err := accesslog.NewAccessLogServiceClient(conn).StreamAccessLogs(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	s.Send(report(t, node, 1))
	if _, err := s.CloseAndRecv(); status.Code(err) != codes.Unauthenticated {
		t.Error(err)
	}
}

func TestMaxReportStreams(t *testing.T) {
	h := newHearing(t, Config{MaxStreams: 1})
	ctx := limit(t)
	h.open(ctx, boards).Send(report(t, node, 1))
	h.next(node + " true 1")
	second := h.open(ctx, boards)
	second.Send(report(t, node, 2))
	if _, err := second.CloseAndRecv(); status.Code(err) != codes.ResourceExhausted {
		t.Error(err)
	}
}

// One identity that opens streams and says nothing shuts out nobody else.
func TestSilentReportStreams(t *testing.T) {
	h := newHearing(t, Config{})
	ctx, cancel := context.WithCancel(limit(t))
	const more = 7
	over := make(chan string, maxSilent+more)
	var streams errgroup.Group
	defer streams.Wait()
	defer cancel()
	for left := maxSilent + more; left > 0; left -= 50 {
		c := h.client(istiod)
		for range min(left, 50) {
			s := h.over(ctx, c)
			streams.Go(func() error {
				over <- status.Convert(s.RecvMsg(new(accesslog.StreamAccessLogsResponse))).Message()
				return nil
			})
		}
	}
	for range more {
		if got, want := <-over, "100 streams of "+istiod.String()+" have not said for which workload"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	h.open(ctx, boards).Send(report(t, node, 1))
	h.next(node + " true 1")
	if len(over) != 0 {
		t.Error(<-over)
	}
}

// A stream that is old ends without an error, so that replicas share them.
func TestReportsAge(t *testing.T) {
	h := newHearing(t, Config{StreamAge: 10 * time.Millisecond})
	s := h.open(limit(t), boards)
	s.Send(report(t, node, 1))
	if err := s.RecvMsg(new(accesslog.StreamAccessLogsResponse)); err != nil {
		t.Error(err)
	}
	h.next(node + " true 1")
	h.next(node + " is gone")
}
