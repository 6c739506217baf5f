package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"hasp/mesh"
	"hasp/xds"
)

const (
	// reportEvery is the least time between two reports.
	reportEvery = time.Second
	// reportStuck is how long the control plane may leave a report unread.
	reportStuck = 30 * time.Second
	// reportLast is how long the last report may take, when the proxy ends.
	reportLast = time.Second
	// deafFor is how long a control plane that takes no reports is left alone.
	deafFor = 5 * time.Minute
	// maxAnswer bounds what the control plane says to that, in bytes; it is
	// nothing.
	maxAnswer = 16 << 10
)

var errStuck = fmt.Errorf("the control plane left a report unread for %s", reportStuck)

// ReportSource is what there is to report about. Reports are made when they can
// be sent, so what a slow control plane does not take waits there, summed up.
type ReportSource interface {
	// Changed has a value, or is closed, when there is something to report that
	// the reports made since it was asked for did not have.
	Changed() <-chan struct{}
	// Report is what changed since the last one, or everything. It may be nil.
	Report(whole bool) *mesh.Report
}

// ReporterConfig is what a Reporter needs. It connects as a [Client] does; see
// [Config].
type ReporterConfig struct {
	Target  string
	Node    string
	TLS     func() *tls.Config
	Changed func() <-chan struct{}
	Dial    func(ctx context.Context, address string) (net.Conn, error)
	Log     *slog.Logger
	Source  ReportSource
}

// Reporter tells the control plane what its proxy sees.
type Reporter struct {
	cfg   ReporterConfig
	every time.Duration // tests shorten it
}

// NewReporter checks the configuration. Nothing is dialled before Run.
func NewReporter(cfg ReporterConfig) (*Reporter, error) {
	if cfg.Target == "" || cfg.Node == "" || cfg.TLS == nil || cfg.Log == nil || cfg.Source == nil {
		return nil, errors.New("xds/client: a reporter needs a target, a node, TLS, a log and a source")
	}
	if cfg.Dial == nil {
		cfg.Dial = plainDial
	}
	return &Reporter{cfg: cfg, every: reportEvery}, nil
}

// Run reports, by one stream after the other, until ctx ends; then it reports
// once more, if it was connected and the control plane is quick. It always
// returns nil.
func (r *Reporter) Run(ctx context.Context) error {
	again(ctx, maxWait, r.cfg.Changed, r.stream, func(err error, wait time.Duration) time.Duration {
		if errors.Is(err, errAnew) {
			return wait
		}
		level := slog.LevelWarn
		switch status.Code(err) {
		case codes.Unimplemented:
			level, wait = slog.LevelInfo, deafFor
		case codes.Unavailable:
			level = slog.LevelDebug // the Client tells of it
		}
		r.cfg.Log.Log(ctx, level, "reports are not taken", slog.String("target", r.cfg.Target), slog.Any("err", err), slog.Duration("retry", wait))
		return wait
	})
	return nil
}

// connectReports to a control plane that has next to nothing to answer.
func connectReports(target string, cfg *tls.Config, dial dialFunc) (*grpc.ClientConn, error) {
	return connect(target, cfg, dial, grpc.WithMaxHeaderListSize(maxAnswer), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
}

// stream is one connection, from dialling to its end.
func (r *Reporter) stream(ctx context.Context) error {
	conn, err := connectReports(r.cfg.Target, r.cfg.TLS(), r.cfg.Dial)
	if err != nil {
		return err
	}
	defer conn.Close()
	// The stream outlives ctx by the last report.
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	opened := context.AfterFunc(ctx, cancel)
	als, err := alsv3.NewAccessLogServiceClient(conn).StreamAccessLogs(lasting)
	if err != nil {
		return fmt.Errorf("open the stream: %w", err)
	}
	if !opened() {
		return ctx.Err()
	}
	late := context.AfterFunc(ctx, func() { time.AfterFunc(reportLast, cancel) })
	defer late()
	s := &reports{Reporter: r, als: als, cancel: cancel, ended: make(chan struct{})}
	go s.receive()
	err = s.loop(ctx)
	if err == nil {
		err = s.last()
	}
	cancel()
	<-s.ended
	if errors.Is(err, io.EOF) { // the sender only knows that it ended
		return s.why
	}
	return err
}

// reports is one stream.
type reports struct {
	*Reporter
	als    alsv3.AccessLogService_StreamAccessLogsClient
	cancel context.CancelFunc
	ended  chan struct{} // closed when the control plane has ended it, or cancel
	why    error         // to be read after that
}

// receive waits for the end: there is one answer, after the last report.
func (s *reports) receive() {
	defer close(s.ended)
	s.why = errAnew
	if err := s.als.RecvMsg(new(alsv3.StreamAccessLogsResponse)); err != nil && !errors.Is(err, io.EOF) {
		s.why = err
	}
}

// loop reports until ctx ends, which is no error, or the stream does.
func (s *reports) loop(ctx context.Context) error {
	pace := time.NewTicker(s.every)
	defer pace.Stop()
	for whole := true; ; whole = false {
		changed := s.cfg.Source.Changed()
		pace.Reset(s.every)
		if err := s.send(whole); err != nil {
			return err
		}
		select {
		case <-pace.C:
		case <-s.ended:
			return io.EOF
		case <-ctx.Done():
			return nil
		}
		select {
		case <-changed:
		case <-s.ended:
			return io.EOF
		case <-ctx.Done():
			return nil
		}
	}
}

// send one report.
func (s *reports) send(whole bool) error {
	report := s.cfg.Source.Report(whole)
	if report == nil {
		return nil
	}
	own := *report
	own.Node, own.Whole = s.cfg.Node, report.Whole || whole
	messages, err := xds.EncodeReport(&own)
	if err != nil {
		return err
	}
	return s.write(messages)
}

// write waits as long as the control plane does not read, within reason.
func (s *reports) write(messages []*alsv3.StreamAccessLogsMessage) (err error) {
	stuck := time.AfterFunc(reportStuck, s.cancel)
	for _, m := range messages {
		if err = s.als.Send(m); err != nil {
			break
		}
	}
	if !stuck.Stop() {
		return errStuck
	}
	return err
}

// last says what there is left to say, and waits until the control plane has
// it.
func (s *reports) last() error {
	if err := s.send(false); err != nil {
		return err
	}
	if err := s.als.CloseSend(); err != nil {
		return err
	}
	<-s.ended
	return nil
}
