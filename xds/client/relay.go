package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"hasp/mesh"
	"hasp/xds"
)

// maxRelayed bounds what waits to be passed on, in bytes of memory: some hundred
// thousand edges and connections, or fewer of a proxy with long stories. The other
// control plane that is slower than that is told all anew.
const maxRelayed = 128 << 20

// reportBytes is what a report takes that has nothing in it.
const reportBytes = 256

var errBehind = errors.New("the other control plane does not keep up")

// RelayConfig is what a Relay needs. It connects as a [Client] does; see
// [Config].
type RelayConfig struct {
	Target string
	TLS    func() *tls.Config
	Dial   func(ctx context.Context, address string) (net.Conn, error)
	Log    *slog.Logger
	// Opened is called when a stream is there: what was told before is lost, and
	// the other control plane must hear of every proxy anew.
	Opened func(context.Context)
}

// Relay passes on to another control plane what proxies report to this one.
type Relay struct {
	cfg RelayConfig

	mu     sync.Mutex
	open   bool
	behind bool
	queue  []*mesh.Report
	size   int
	wake   chan struct{}
}

// NewRelay checks the configuration. Nothing is dialled before Run.
func NewRelay(cfg RelayConfig) (*Relay, error) {
	if cfg.Target == "" || cfg.TLS == nil || cfg.Log == nil || cfg.Opened == nil {
		return nil, errors.New("xds/client: a relay needs a target, TLS, a log and what to do when it is open")
	}
	if cfg.Dial == nil {
		cfg.Dial = plainDial
	}
	return &Relay{cfg: cfg, wake: make(chan struct{}, 1)}, nil
}

// Tell passes a report on, soon. It does not wait, and nobody may change the
// report any more. While there is no stream it does nothing.
func (r *Relay) Tell(report *mesh.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open || r.behind {
		return
	}
	r.size += reportBytes + xds.SizeOf(report)
	if r.size > maxRelayed {
		r.behind, r.queue = true, nil
	} else {
		r.queue = append(r.queue, report)
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// take what waits.
func (r *Relay) take() ([]*mesh.Report, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.behind {
		return nil, errBehind
	}
	q := r.queue
	r.queue, r.size = nil, 0
	return q, nil
}

func (r *Relay) set(open bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open, r.behind, r.queue, r.size = open, false, nil, 0
}

// Run passes on until ctx ends. It always returns nil.
func (r *Relay) Run(ctx context.Context) error {
	again(ctx, maxWait, nil, r.stream, func(err error, wait time.Duration) time.Duration {
		if status.Code(err) == codes.Unimplemented {
			wait = deafFor
		}
		r.cfg.Log.Log(ctx, slog.LevelDebug, "reports are not passed on", slog.String("target", r.cfg.Target), slog.Any("err", err), slog.Duration("retry", wait))
		return wait
	})
	return nil
}

func (r *Relay) stream(ctx context.Context) error {
	conn, err := connectReports(r.cfg.Target, r.cfg.TLS(), r.cfg.Dial)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	als, err := alsv3.NewAccessLogServiceClient(conn).StreamAccessLogs(ctx)
	if err != nil {
		return err
	}
	s := &reports{als: als, cancel: cancel, ended: make(chan struct{})}
	go s.receive()
	opened := make(chan struct{})
	defer func() { cancel(); <-s.ended; <-opened }()
	// The first message shows that we are there; proxies may have nothing to say.
	err = r.send(s, &mesh.Report{})
	r.set(err == nil)
	defer r.set(false)
	go func() {
		defer close(opened)
		if err == nil {
			r.cfg.Opened(ctx)
		}
	}()
	if err != nil {
		return r.why(s, err)
	}
	for {
		select {
		case <-r.wake:
		case <-s.ended:
			return s.why
		case <-ctx.Done():
			return ctx.Err()
		}
		queue, err := r.take()
		if err != nil {
			return err
		}
		for _, report := range queue {
			if err := r.send(s, report); err != nil {
				return r.why(s, err)
			}
		}
	}
}

// why a stream ended, which its sender is not told.
func (r *Relay) why(s *reports, err error) error {
	if errors.Is(err, io.EOF) {
		<-s.ended
		return s.why
	}
	return err
}

func (r *Relay) send(s *reports, report *mesh.Report) error {
	messages, err := xds.EncodeReport(report)
	if err != nil {
		r.cfg.Log.Warn("a report cannot be passed on", slog.String("node", report.Node), slog.Any("err", err))
		return nil
	}
	return s.write(messages)
}
