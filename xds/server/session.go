package server

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"hasp/mesh"
	"hasp/xds"
)

// Limits of one stream. A proxy that subscribes to more, or goes on asking
// without answering, is not one of ours.
const (
	maxNames       = 200_000 // subscribed, of one type
	maxNameLength  = 1024    // bytes
	maxOutstanding = 4096    // responses without an answer
	maxNackMessage = 4096    // bytes kept of it
	maxDemand      = 50_000  // addresses asked for
)

// session is what both protocols keep of a stream. It belongs to the goroutine
// of serve.
type session struct {
	srv   *Server
	node  string
	peer  spiffeid.ID
	entry *entry // in the registry

	resources  xds.Resources // what the proxy is being told
	generation uint64

	// What a proxy asked for that is told on demand.
	capable  bool // it can be told so
	onDemand bool // it is
	demand   mesh.Demand
	asked    bool // demand changed, and the Source was not asked since
	loaded   bool // resources are what demand asks for
	same     bool // they were already, when the Source was asked last

	nonces      uint64
	outstanding map[string]string // nonce to type, sent and not answered
	answered    bool              // something of this generation was
	nacked      bool              // something of this generation was refused
}

// open identifies the proxy and gets its configuration for the first time. Opening
// are the requests that its stream begins with.
func open[R request](ctx context.Context, s *Server, opening []R, peer spiffeid.ID) (*session, error) {
	node, err := nodeName(opening[0].GetNode().GetId())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	ses := &session{srv: s, node: node, peer: peer, outstanding: map[string]string{}, capable: capable(opening[0])}
	for _, r := range opening {
		if _, err := ses.ask(r); err != nil {
			return nil, err
		}
	}
	if err := ses.load(ctx); err != nil {
		ses.log().Warn("proxy refused", slog.Any("why", err))
		if r := refusal(err); r != nil {
			return nil, r
		}
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	ses.entry = s.proxies.connect(node, peer.String())
	s.proxies.sent(ses.entry, ses.generation)
	s.proxies.told(ses.entry, ses.onDemand, ses.demand)
	ses.log().Info("proxy connected", slog.Uint64("generation", ses.generation), slog.Bool("onDemand", ses.onDemand))
	return ses, nil
}

func (ses *session) close() {
	ses.srv.proxies.disconnect(ses.entry)
	ses.log().Info("proxy disconnected")
}

// load asks the Source; on an error the session has what it had.
func (ses *session) load(ctx context.Context) error {
	select {
	case ses.srv.work <- struct{}{}:
		defer func() { <-ses.srv.work }()
	case <-ctx.Done():
		return ctx.Err()
	}
	sel, err := ses.selection()
	if err != nil {
		return err
	}
	if ses.same = sel.Resources == nil || sealed(sel.Resources) == sealed(ses.resources); !ses.same {
		ses.resources = sel.Resources
	}
	ses.generation, ses.onDemand, ses.loaded = sel.Generation, sel.OnDemand, true
	ses.answered, ses.nacked = false, false
	return nil
}

// sealed is the version of the resource that says which others there are.
func sealed(r xds.Resources) string { return r[xds.RuntimeType][xds.ProxyName].Version }

// selection is what the Source has for the proxy.
func (ses *session) selection() (sel Selection, err error) {
	ses.asked = false
	if ses.capable && ses.srv.selective != nil {
		since := ses.generation
		if !ses.loaded {
			since = 0
		}
		return ses.srv.selective.ResourcesFor(ses.node, ses.peer, ses.demand, since)
	}
	cfg, err := ses.srv.cfg.Source.ConfigFor(ses.node, ses.peer)
	if err != nil {
		return sel, err
	}
	sel.Generation = cfg.Generation
	sel.Resources, err = xds.Encode(cfg)
	return sel, err
}

// refresh loads the newest configuration. A refusal ends the stream; any other
// error is told in the status, and the proxy keeps what it has.
func (ses *session) refresh(ctx context.Context) error {
	before := ses.generation
	err := ses.load(ctx)
	if err == nil {
		switch {
		case ses.same:
			ses.srv.proxies.passed(ses.entry, ses.generation)
		case ses.generation != before:
			ses.srv.proxies.sent(ses.entry, ses.generation)
		}
		ses.srv.proxies.told(ses.entry, ses.onDemand, ses.demand)
		return nil
	}
	if r := refusal(err); r != nil {
		ses.log().Warn("proxy refused", slog.Any("why", err))
		return r
	}
	ses.log().Error("no configuration for the proxy", slog.Any("err", err))
	ses.srv.proxies.failed(ses.entry, err)
	return nil
}

// handle takes the answer in a request, lets the protocol do the rest, and
// keeps the books.
func (ses *session) handle(r request, rest func() error) error {
	if !slices.Contains(xds.Types, r.GetTypeUrl()) {
		return nil // a client may know types that we do not: those are empty
	}
	ses.answer(r)
	if err := rest(); err != nil {
		return err
	}
	ses.settle()
	return nil
}

// answer is an ACK or a NACK, when the request is one to something outstanding.
func (ses *session) answer(r request) {
	nonce := r.GetResponseNonce()
	if kind, ok := ses.outstanding[nonce]; !ok || kind != r.GetTypeUrl() {
		return
	}
	delete(ses.outstanding, nonce)
	ses.answered = true
	detail := r.GetErrorDetail()
	if detail == nil {
		return
	}
	ses.nacked = true
	msg := detail.GetMessage()
	msg = msg[:min(len(msg), maxNackMessage)]
	ses.srv.proxies.nack(ses.entry, r.GetTypeUrl(), msg, ses.generation)
	ses.log().Warn("proxy refused its configuration", slog.String("type", r.GetTypeUrl()),
		slog.Uint64("generation", ses.generation), slog.String("why", msg))
}

// settled: everything sent was answered.
func (ses *session) settled() bool { return len(ses.outstanding) == 0 }

// settle takes a generation as acknowledged when everything of it was answered
// and nothing refused. One that had nothing for this proxy counts at once,
// unless the proxy still refuses what it had before.
func (ses *session) settle() {
	if ses.settled() && !ses.nacked {
		ses.srv.proxies.acked(ses.entry, ses.generation, ses.answered)
	}
}

// await is called for every response sent.
func (ses *session) await(kind string) (nonce string, err error) {
	if len(ses.outstanding) >= maxOutstanding {
		return "", status.Errorf(codes.ResourceExhausted, "%d responses have no answer", len(ses.outstanding))
	}
	ses.nonces++
	nonce = strconv.FormatUint(ses.nonces, 10)
	ses.outstanding[nonce] = kind
	return nonce, nil
}

// subscribe adds names to a set within the limits.
func subscribe(set map[string]bool, names []string) error {
	for _, n := range names {
		if len(n) > maxNameLength {
			return status.Errorf(codes.InvalidArgument, "a resource name is longer than %d bytes", maxNameLength)
		}
		set[n] = true
	}
	if len(set) > maxNames {
		return status.Errorf(codes.ResourceExhausted, "subscribed to more than %d names", maxNames)
	}
	return nil
}

func systemVersion(generation uint64) string { return fmt.Sprint(generation) }
