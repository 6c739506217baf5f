package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sync/errgroup"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"hasp/mesh"
	"hasp/xds"
)

const (
	// maxResponse bounds one response, in bytes. The control plane sends about
	// a megabyte at a time, but one resource is never divided.
	maxResponse = 64 << 20
	// stalled is how long after the last response a set may stay incomplete.
	stalled = 15 * time.Second
	// maxHeld bounds the responses that wait for the set to be complete.
	maxHeld = 4096
)

// session is one stream.
type session struct {
	*Client
	out        *queue
	names      map[string]map[string]bool // subscribed by name, by type
	leaving    map[string]map[string]bool // given up, and not gone yet, by type
	held       []held                     // responses not answered yet
	generation uint64
	first      bool // the node is still to be said
}

// errAnew: the control plane ended the stream, and nothing is wrong.
var errAnew = errors.New("the control plane asks to connect anew")

type held struct{ kind, nonce string }

// stream is one connection, from dialling to its end, which is always an error.
func (c *Client) stream(ctx context.Context) error {
	conn, err := connect(c.cfg.Target, c.cfg.TLS(), c.cfg.Dial, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ads, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return fmt.Errorf("open the stream: %w", err)
	}
	s := &session{Client: c, out: newQueue(), names: map[string]map[string]bool{}, leaving: map[string]map[string]bool{}, first: true}
	s.subscribeAll()
	in := make(chan *discovery.DeltaDiscoveryResponse)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for {
			resp, err := ads.Recv()
			if errors.Is(err, io.EOF) {
				return errAnew
			}
			if err != nil {
				return err
			}
			select {
			case in <- resp:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	g.Go(func() error { return s.out.run(ctx, ads.Send) })
	g.Go(func() error { return s.loop(ctx, in, cancel) })
	return g.Wait()
}

// loop answers responses. When it gives up it cancels, which ends the reading.
func (s *session) loop(ctx context.Context, in <-chan *discovery.DeltaDiscoveryResponse, cancel func()) error {
	defer cancel()
	timer := time.NewTimer(stalled)
	defer timer.Stop()
	var demand <-chan struct{}
	if s.cfg.Demand != nil {
		demand = s.cfg.Demand.news
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case resp := <-in:
			s.set(func(st *Status) { st.Connected = true })
			if err := s.response(resp); err != nil {
				return err
			}
			timer.Reset(stalled)
		case <-demand:
			s.subscribe(demanded...)
			s.answerDemand()
		case <-timer.C:
			s.stalled()
		}
	}
}

// subscribeAll asks for all listeners, endpoints and clusters, which is all of the
// mesh or what everybody has of it, for what else is wanted on demand, and by name
// for what we know to be referred to, telling which versions we have. What is wanted
// on demand comes first: see [xds.OnDemand].
func (s *session) subscribeAll() {
	s.subscribe(demanded...)
	s.send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.ClusterType, InitialResourceVersions: s.versions(xds.ClusterType)})
	s.subscribe(xds.RouteType, xds.SecretType, xds.RuntimeType)
}

// demanded are the types of what can be asked for on demand, in the order in which
// they are asked for.
var demanded = []string{xds.ListenerType, xds.EndpointType}

// subscribe follows the references of what is staged, and the proxy's demand. A
// first request without names would ask for everything, so there is none until there
// are names.
func (s *session) subscribe(kinds ...string) {
	for _, kind := range kinds {
		want := s.wanted(kind)
		have, again := s.names[kind]
		req := &discovery.DeltaDiscoveryRequest{TypeUrl: kind}
		for name := range want {
			if s.leaving[kind][name] {
				delete(want, name) // until it is gone, an answer could be to either
			} else if !have[name] {
				req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, name)
			}
		}
		for name := range have {
			if !want[name] {
				req.ResourceNamesUnsubscribe = append(req.ResourceNamesUnsubscribe, name)
				s.giveUp(kind, name)
			}
		}
		if len(req.ResourceNamesSubscribe)+len(req.ResourceNamesUnsubscribe) == 0 {
			continue
		}
		if !again {
			req.InitialResourceVersions = s.versions(kind)
			s.leaveBehind(kind, want)
		}
		s.names[kind] = want
		s.send(req)
	}
}

// wanted are the names of a type to subscribe to.
func (s *session) wanted(kind string) map[string]bool {
	want := map[string]bool{}
	switch kind {
	case xds.RuntimeType:
		want[xds.ProxyName] = true
	case xds.RouteType:
		for _, name := range xds.RouteNames(s.staged) {
			want[name] = true
		}
	case xds.SecretType:
		for _, name := range xds.SecretNames(s.staged) {
			want[name] = true
		}
	default:
		if s.onDemand {
			want = s.cfg.Demand.wanted(kind)
		}
		want[wildcard] = true
	}
	return want
}

const wildcard = "*"

// giveUp a name. What was asked for on demand is told to be gone afterwards; nobody
// tells so of anything else.
func (s *session) giveUp(kind, name string) {
	delete(s.absent[kind], name)
	switch {
	case !slices.Contains(demanded, kind):
		delete(s.staged[kind], name)
	case s.onDemand:
		put(s.leaving, kind, name)
	}
}

// leaveBehind what was asked for in streams before and is not any more: it is told to
// be gone as well, if it was there.
func (s *session) leaveBehind(kind string, want map[string]bool) {
	for name := range s.absent[kind] {
		if !want[name] {
			delete(s.absent[kind], name)
		}
	}
	if !s.onDemand {
		return
	}
	for name := range s.staged[kind] {
		if !want[name] && xds.Ask(new(mesh.Demand), kind, []string{name}) {
			put(s.leaving, kind, name)
		}
	}
}

// gone takes note that a resource is not there, and reports whether it was given up.
func (s *session) gone(kind, name string) bool {
	delete(s.staged[kind], name)
	if s.leaving[kind][name] {
		delete(s.leaving[kind], name)
		return true
	}
	if s.names[kind][name] {
		put(s.absent, kind, name)
	}
	return false
}

func put(in map[string]map[string]bool, kind, name string) {
	if in[kind] == nil {
		in[kind] = map[string]bool{}
	}
	in[kind][name] = true
}

// answerDemand tells the proxy which of its questions are answered, once what is
// staged is what is in force.
func (s *session) answerDemand() {
	if s.cfg.Demand == nil || s.applied == "" || s.applied != s.staged[xds.RuntimeType][xds.ProxyName].Version {
		return
	}
	if complete, err := xds.Complete(s.staged); err != nil || !complete {
		return
	}
	s.cfg.Demand.answer(func(kind, name string) bool {
		_, there := s.staged[kind][name]
		return !s.onDemand || s.names[kind][name] && (there || s.absent[kind][name])
	})
}

func (s *session) versions(kind string) map[string]string {
	out := map[string]string{}
	for name, res := range s.staged[kind] {
		out[name] = res.Version
	}
	return out
}

func (s *session) send(req *discovery.DeltaDiscoveryRequest) {
	if s.first {
		req.Node = &corev3.Node{Id: s.cfg.Node, UserAgentName: "hasp-proxy"}
		if s.cfg.Demand != nil {
			req.Node.ClientFeatures = []string{xds.OnDemand}
		}
		s.first = false
	}
	s.out.put(req)
}

// response stages what came, follows new references, and takes the set in use
// when it is complete. Until then the response is held unanswered: an ACK says
// that we do what it says.
func (s *session) response(resp *discovery.DeltaDiscoveryResponse) error {
	kind := resp.GetTypeUrl()
	if !slices.Contains(xds.Types, kind) {
		return fmt.Errorf("the control plane sent a resource of type %q, which nobody asked for", kind)
	}
	for _, res := range resp.GetResources() {
		s.staged.Set(kind, res.GetName(), xds.Resource{Version: res.GetVersion(), Body: res.GetResource()})
		delete(s.absent[kind], res.GetName())
	}
	free := false // to ask again for what was given up
	for _, name := range resp.GetRemovedResources() {
		free = s.gone(kind, name) || free
	}
	if g, err := strconv.ParseUint(resp.GetSystemVersionInfo(), 10, 64); err == nil {
		s.generation = g
	}
	if err := s.staged.CheckSize(); err != nil {
		return err
	}
	if len(s.held) == maxHeld {
		return errors.New("too many responses that do not make up a configuration")
	}
	s.held = append(s.held, held{kind, resp.GetNonce()})
	if kind == xds.ListenerType {
		s.subscribe(xds.RouteType, xds.SecretType)
	}
	if free {
		s.subscribe(kind)
	}
	switch complete, err := xds.Complete(s.staged); {
	case err != nil:
		s.answer(err)
	case complete:
		s.answer(s.apply())
		s.answerDemand()
	}
	return nil
}

// apply decodes and hands over, unless this very configuration is in use.
func (s *session) apply() error {
	version := s.staged[xds.RuntimeType][xds.ProxyName].Version
	if version == s.applied && s.generation == s.Status().Generation {
		return nil
	}
	cfg, err := xds.Decode(s.staged)
	if err != nil {
		return err
	}
	cfg.Generation = s.generation
	turns := cfg.OnDemand != s.onDemand
	if cfg.OnDemand && s.cfg.Demand == nil {
		return errors.New("xds: told on demand, which nobody asked for")
	}
	if turns && cfg.OnDemand {
		s.cfg.Demand.again() // answers to questions of long ago
	}
	if err := s.cfg.OnConfig(cfg); err != nil {
		return err
	}
	s.applied, s.onDemand = version, cfg.OnDemand
	if turns {
		clear(s.leaving)
		s.subscribe(demanded...)
	}
	s.set(func(st *Status) { st.Generation, st.AppliedAt = cfg.Generation, time.Now() })
	return nil
}

// answer acknowledges all that is held, or refuses it.
func (s *session) answer(refused error) {
	s.set(func(st *Status) { st.Err = refused })
	var detail *rpcstatus.Status
	if refused != nil {
		s.cfg.Log.Error("configuration refused", slog.Uint64("generation", s.generation), slog.Any("err", refused))
		detail = &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: refused.Error()}
	}
	for _, h := range s.held {
		s.send(&discovery.DeltaDiscoveryRequest{TypeUrl: h.kind, ResponseNonce: h.nonce, ErrorDetail: detail})
	}
	s.held = s.held[:0]
}

// stalled refuses what should have become a configuration long ago, so that
// the control plane knows and goes on.
func (s *session) stalled() {
	if len(s.held) == 0 {
		return
	}
	s.answer(fmt.Errorf("xds: what came of generation %d is not the whole of it: %d listeners, %d clusters, %d endpoint lists, %d routes, %d secrets",
		s.generation, len(s.staged[xds.ListenerType]), len(s.staged[xds.ClusterType]), len(s.staged[xds.EndpointType]), len(s.staged[xds.RouteType]), len(s.staged[xds.SecretType])))
}
