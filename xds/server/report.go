package server

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"hasp/mesh"
	"hasp/xds"
)

// A proxy reports about once a second. Messages of one that reports more often
// wait in its own buffers.
const (
	reportEvery = 200 * time.Millisecond
	reportBurst = 20
	// maxSilent bounds the streams of one identity that have not said yet for
	// which node they speak, of which each has one.
	maxSilent = 100
)

var errReplaced = errors.New("the proxy reports on a newer stream")

// reporters are the streams that report, one a node.
type reporters struct {
	mu   sync.Mutex
	node map[string]*reporter
	// silent counts the streams of an identity that have not said for whom.
	silent map[spiffeid.ID]int
	// relayed are nodes that another control plane speaks for.
	relayed map[string]*relay
}

// reporter is the stream of one node. It belongs to the goroutine that serves
// it.
type reporter struct {
	srv    *Server
	node   string
	peer   spiffeid.ID
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when nothing more of it is taken
	anew   chan struct{} // has something when the proxy is to begin anew
}

// StreamAccessLogs takes what one proxy reports, by Envoy's access log service.
func (s *Server) StreamAccessLogs(stream accesslog.AccessLogService_StreamAccessLogsServer) error {
	if s.cfg.Reports == nil {
		return status.Error(codes.Unimplemented, "reports are not taken here")
	}
	leave, err := s.enter(&s.reporting)
	if err != nil {
		return err
	}
	defer leave()
	who, err := peerOf(stream.Context(), s.cfg.Now())
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	ctx, cancel := context.WithDeadlineCause(stream.Context(), who.until, errExpired)
	defer cancel()
	ctx, replace := context.WithCancelCause(ctx)
	defer replace(nil)
	in := receive(ctx, rawReports{stream})

	first, err := s.firstReport(ctx, who.id, in)
	if err != nil {
		return err
	}
	if s.cfg.Relays != nil && s.cfg.Relays(who.id) {
		return s.relay(ctx, who.id, first, in)
	}
	report, err := s.decode(ctx, first)
	if err != nil {
		return err
	}
	node, err := nodeName(report.Node)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	rep := &reporter{srv: s, node: node, peer: who.id, cancel: replace, done: make(chan struct{}), anew: make(chan struct{}, 1)}
	if err := rep.may(); err != nil {
		rep.log().Warn("report refused", slog.Any("why", err))
		return err
	}
	rep.open()
	defer rep.close()
	err = rep.take(report)
	if err == nil {
		err = rep.loop(ctx, in)
	}
	if err != nil {
		rep.log().Log(ctx, levelOf(err), "reports end", slog.Any("why", err))
		return err
	}
	return stream.SendAndClose(&accesslog.StreamAccessLogsResponse{})
}

// levelOf why reports end: a proxy that connects again does no wrong.
func levelOf(err error) slog.Level {
	switch status.Code(err) {
	case codes.Aborted, codes.Canceled, codes.Unauthenticated, codes.Unavailable:
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// firstReport waits for the message that says for whom the stream speaks. One
// identity cannot take the places of all others by saying nothing.
func (s *Server) firstReport(ctx context.Context, id spiffeid.ID, in <-chan received[[]byte]) ([]byte, error) {
	all := &s.reporters
	count := func(n int) int {
		all.mu.Lock()
		defer all.mu.Unlock()
		if all.silent[id] += n; all.silent[id] == 0 {
			delete(all.silent, id)
			return 0
		}
		return all.silent[id]
	}
	defer count(-1)
	if count(1) > maxSilent {
		return nil, status.Errorf(codes.ResourceExhausted, "%d streams of %s have not said for which workload", maxSilent, id)
	}
	return awaitFirst(ctx, in)
}

// loop goes on until the proxy hangs up, is refused, replaced, or has been here
// long enough. What it cannot take yet it does not read, so the proxy waits.
func (r *reporter) loop(ctx context.Context, in <-chan received[[]byte]) error {
	limit := rate.NewLimiter(rate.Every(reportEvery), reportBurst)
	aged, stop := after(r.srv.cfg.StreamAge)
	defer stop()
	for {
		if limit.Wait(ctx) != nil {
			return ended(ctx)
		}
		select {
		case m := <-in:
			if m.err != nil {
				return hungUp(ctx, m.err)
			}
			if err := r.message(ctx, m.msg); err != nil {
				return err
			}
		case <-aged:
			return nil
		case <-r.anew:
			return nil
		case <-ctx.Done():
			return ended(ctx)
		}
	}
}

// message is a later one: an Envoy names itself in the first only.
func (r *reporter) message(ctx context.Context, wire []byte) error {
	report, err := r.srv.decode(ctx, wire)
	if err != nil {
		return err
	}
	if report.Node != "" {
		if node, err := nodeName(report.Node); err != nil || node != r.node {
			return status.Errorf(codes.InvalidArgument, "this stream is of %s", r.node)
		}
	}
	if err := r.may(); err != nil {
		return err
	}
	return r.take(report)
}

// decode does so for a few streams at a time.
func (s *Server) decode(ctx context.Context, wire []byte) (*mesh.Report, error) {
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return nil, ended(ctx)
	}
	report, err := xds.DecodeReport(wire)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return report, nil
}

// may asks each time, since a workload may go while its proxy reports.
func (r *reporter) may() error {
	err := r.srv.cfg.MayReport(r.node, r.peer)
	if err == nil {
		return nil
	}
	if ref := refusal(err); ref != nil {
		return ref
	}
	return status.Error(codes.Unavailable, err.Error())
}

func (r *reporter) take(report *mesh.Report) error {
	report.Node, report.Identity, report.Gone = r.node, r.peer.String(), false
	if report.At.IsZero() {
		report.At = r.srv.cfg.Now() // an Envoy does not say
	}
	err := r.srv.cfg.Reports(r.node, r.peer, report)
	if err == nil {
		return nil
	}
	if ref := refusal(err); ref != nil {
		return ref
	}
	return status.Error(codes.InvalidArgument, err.Error())
}

// open makes this the node's stream. When there was one before, it ends first,
// so that nothing of it comes after something newer.
func (r *reporter) open() {
	all := &r.srv.reporters
	all.mu.Lock()
	old := all.node[r.node]
	all.node[r.node] = r
	all.mu.Unlock()
	if old != nil {
		old.cancel(errReplaced)
		<-old.done
	}
}

func (r *reporter) close() {
	defer close(r.done)
	all := &r.srv.reporters
	newest := func() bool {
		all.mu.Lock()
		defer all.mu.Unlock()
		return all.node[r.node] == r
	}
	// It stays the node's until Gone has returned: a newer one waits.
	if newest() && r.srv.cfg.Gone != nil {
		r.srv.cfg.Gone(r.node)
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.node[r.node] == r {
		delete(all.node, r.node)
	}
}

func (r *reporter) log() *slog.Logger {
	return r.srv.cfg.Log.With(slog.String("node", r.node), slog.String("identity", r.peer.String()))
}

// rawReports gives messages as they are on the wire, because read whole a
// hostile one would need far more memory than it has bytes.
type rawReports struct {
	accesslog.AccessLogService_StreamAccessLogsServer
}

func (r rawReports) Recv() ([]byte, error) {
	var m emptypb.Empty // keeps the fields it does not know
	if err := r.RecvMsg(&m); err != nil {
		return nil, err
	}
	b := m.ProtoReflect().GetUnknown()
	if len(b) > xds.MaxReportBytes {
		return nil, status.Errorf(codes.ResourceExhausted, "a message has %d bytes, the limit is %d", len(b), xds.MaxReportBytes)
	}
	return b, nil
}
