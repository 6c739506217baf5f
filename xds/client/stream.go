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
	s := &session{Client: c, out: newQueue(), names: map[string]map[string]bool{}, first: true}
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
		case <-timer.C:
			s.stalled()
		}
	}
}

// subscribeAll asks for all listeners and clusters, and by name for what we
// know to be referred to, telling which versions we have.
func (s *session) subscribeAll() {
	for _, kind := range []string{xds.ClusterType, xds.ListenerType} {
		s.send(&discovery.DeltaDiscoveryRequest{TypeUrl: kind, InitialResourceVersions: s.versions(kind)})
	}
	s.subscribe(xds.EndpointType, xds.RouteType, xds.SecretType, xds.RuntimeType)
}

// subscribe follows the references of what is staged. A first request without
// names would ask for everything, so there is none until there are names.
func (s *session) subscribe(kinds ...string) {
	for _, kind := range kinds {
		want := map[string]bool{}
		for _, name := range referred(kind, s.staged) {
			want[name] = true
		}
		have, again := s.names[kind]
		req := &discovery.DeltaDiscoveryRequest{TypeUrl: kind}
		for name := range want {
			if !have[name] {
				req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, name)
			}
		}
		for name := range have {
			if !want[name] {
				req.ResourceNamesUnsubscribe = append(req.ResourceNamesUnsubscribe, name)
				delete(s.staged[kind], name)
			}
		}
		if len(req.ResourceNamesSubscribe)+len(req.ResourceNamesUnsubscribe) == 0 {
			continue
		}
		if !again {
			req.InitialResourceVersions = s.versions(kind)
		}
		s.names[kind] = want
		s.send(req)
	}
}

func referred(kind string, r xds.Resources) []string {
	switch kind {
	case xds.EndpointType:
		return xds.EndpointNames(r)
	case xds.RouteType:
		return xds.RouteNames(r)
	case xds.SecretType:
		return xds.SecretNames(r)
	}
	return []string{xds.ProxyName}
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
	}
	for _, name := range resp.GetRemovedResources() {
		delete(s.staged[kind], name)
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
	switch kind {
	case xds.ClusterType:
		s.subscribe(xds.EndpointType)
	case xds.ListenerType:
		s.subscribe(xds.RouteType, xds.SecretType)
	}
	switch complete, err := xds.Complete(s.staged); {
	case err != nil:
		s.answer(err)
	case complete:
		s.answer(s.apply())
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
	if err := s.cfg.OnConfig(cfg); err != nil {
		return err
	}
	s.applied = version
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
