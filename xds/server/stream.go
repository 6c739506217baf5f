package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
)

// firstRequest is how long a new stream may stay silent.
const firstRequest = 15 * time.Second

// request is what both protocols' requests have.
type request interface {
	GetNode() *corev3.Node
	GetTypeUrl() string
	GetResponseNonce() string
	GetErrorDetail() *status.Status
}

// protocol is one of the two forms of xDS, for one stream.
type protocol[R request] interface {
	// request takes note of a subscription and answers it.
	request(*session, R) error
	// push sends what the proxy has not got of the session's resources.
	push(*session) error
}

// receiver is the half of a gRPC stream that serve reads.
type receiver[R any] interface {
	Context() context.Context
	Recv() (R, error)
}

// serve is the life of a stream. One goroutine reads requests; everything else,
// sending too, happens here one after the other, so a slow proxy holds up
// nobody but itself.
func serve[R request](s *Server, stream receiver[R], p protocol[R]) error {
	leave, err := s.enter(&s.streams)
	if err != nil {
		return err
	}
	defer leave()
	who, err := peerOf(stream.Context(), s.cfg.Now())
	if err != nil {
		return grpcstatus.Error(codes.Unauthenticated, err.Error())
	}
	ctx, cancel := context.WithDeadlineCause(stream.Context(), who.until, errExpired)
	defer cancel()
	in := receive(ctx, stream)

	opening, err := awaitOpening(ctx, in)
	if err != nil {
		return err
	}
	ses, err := open(ctx, s, opening, who.id)
	if err != nil {
		return err
	}
	defer ses.close()
	for _, r := range opening {
		if err := ses.handle(r, func() error { return p.request(ses, r) }); err != nil {
			return err
		}
	}
	return loop(ctx, ses, p, in)
}

// loop goes on until the proxy hangs up, is refused or has been here long enough.
// News waits until the proxy has answered what it was sent, and so does what it asks
// for on demand: so what it has is one generation whole, and many generations, or
// questions, in a row become one.
func loop[R request](ctx context.Context, ses *session, p protocol[R], in <-chan received[R]) error {
	tried := ses.generation // the newest that the Source was asked for
	aged, stop := after(ses.srv.cfg.StreamAge)
	defer stop()
	old := false
	for {
		if old && ses.settled() {
			return nil
		}
		newest, news := ses.srv.news()
		if (newest > tried && newest > ses.generation || ses.asked) && ses.settled() {
			tried = max(tried, newest)
			asked := ses.asked
			if err := ses.refresh(ctx); err != nil {
				return err
			}
			if asked || !ses.same { // an answer may be that nothing is there
				if err := p.push(ses); err != nil {
					return err
				}
			}
			ses.settle()
		}
		select {
		case r := <-in:
			if r.err != nil {
				return hungUp(ctx, r.err)
			}
			if err := ses.handle(r.msg, func() error { return p.request(ses, r.msg) }); err != nil {
				return err
			}
		case <-news:
		case <-aged:
			old = true
		case <-ctx.Done():
			return ended(ctx)
		}
	}
}

// after an age, give or take a tenth, so that those who came together do not
// come together again; never when it is 0.
func after(age time.Duration) (<-chan time.Time, func() bool) {
	if age == 0 {
		return nil, func() bool { return false }
	}
	t := time.NewTimer(age - age/10 + rand.N(age/5))
	return t.C, t.Stop
}

type received[R any] struct {
	msg R
	err error
}

// receive reads the stream into a channel. Its goroutine ends with the stream,
// which gRPC ends when serve returns.
func receive[R any](ctx context.Context, stream receiver[R]) <-chan received[R] {
	out := make(chan received[R])
	go func() {
		for {
			msg, err := stream.Recv()
			select {
			case out <- received[R]{msg, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

// awaitOpening is the first request, and of a proxy that can be told on demand the
// second too: the two say what it has asked for.
func awaitOpening[R request](ctx context.Context, in <-chan received[R]) ([]R, error) {
	first, err := awaitFirst(ctx, in)
	if err != nil || !capable(first) {
		return []R{first}, err
	}
	second, err := awaitFirst(ctx, in)
	return []R{first, second}, err
}

func awaitFirst[R any](ctx context.Context, in <-chan received[R]) (R, error) {
	timer := time.NewTimer(firstRequest)
	defer timer.Stop()
	var none R
	select {
	case r := <-in:
		if r.err != nil {
			return none, hungUp(ctx, r.err)
		}
		return r.msg, nil
	case <-timer.C:
		return none, grpcstatus.Errorf(codes.DeadlineExceeded, "no request within %v", firstRequest)
	case <-ctx.Done():
		return none, ended(ctx)
	}
}

var errExpired = errors.New("the client certificate has ended, connect again with the renewed one")

// ended says why a context is over in the form that the proxy gets.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, errExpired) {
		return grpcstatus.Error(codes.Unauthenticated, cause.Error())
	} else if errors.Is(cause, errReplaced) {
		return grpcstatus.Error(codes.Aborted, cause.Error())
	}
	return grpcstatus.FromContextError(ctx.Err()).Err()
}

// hungUp: that a proxy goes away is no error.
func hungUp(ctx context.Context, err error) error {
	if errors.Is(err, io.EOF) || ctx.Err() != nil && context.Cause(ctx) == context.Canceled {
		return nil
	}
	return err
}

func (ses *session) log() *slog.Logger {
	return ses.srv.cfg.Log.With(slog.String("node", ses.node), slog.String("identity", ses.peer.String()))
}
