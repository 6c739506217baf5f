// Package server tells proxies their configuration: Envoy's aggregated
// discovery service (xDS v3 ADS), in its delta and its state-of-the-world form.
//
// A [Server] asks its [Source] for the configuration of whoever connects, sends
// what of it the proxy does not have, and again after every [Server.Notify].
// What was sent, acknowledged and refused is kept for [Server.Status].
//
// The other way round proxies report what they see, by Envoy's access log
// service: see [Config.Reports].
package server

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"hasp/mesh"
	"hasp/xds"
)

// What a Source answers, wrapped in the reason, when a proxy gets nothing.
var (
	ErrNotFound = errors.New("there is no such workload")
	ErrDenied   = errors.New("the workload is not this identity's")
)

// Source knows the configurations.
type Source interface {
	// ConfigFor is the newest configuration of the proxy of the workload node
	// (NAMESPACE/NAME), asked for by peer. It refuses a peer that is not the
	// workload's identity with ErrDenied, an unknown node with ErrNotFound; both
	// end the stream. After any other error a proxy that is connected keeps what
	// it has. It is called from many goroutines.
	ConfigFor(node string, peer spiffeid.ID) (*mesh.ProxyConfig, error)
}

// Selective is a Source that tells those proxies on demand that can be told so.
type Selective interface {
	Source
	// ResourcesFor is ConfigFor, encoded, for a proxy that asked for d, which is the
	// caller's.
	// Since is the generation of what the proxy has, asked for with the same d, or 0:
	// Selection.Resources are nil when nothing of that has changed.
	ResourcesFor(node string, peer spiffeid.ID, d mesh.Demand, since uint64) (Selection, error)
}

// Selection is what a proxy is told.
type Selection struct {
	Generation uint64
	Resources  xds.Resources
	// OnDemand: it depends on what the proxy asked for. Otherwise it is the whole.
	OnDemand bool
}

// Config is what a Server needs.
type Config struct {
	// Source may be a Selective.
	Source Source
	Log    *slog.Logger
	// Reports takes what the proxy of a workload tells of itself, and who it is by
	// its certificate; Node and Identity of the report are set. An error ends the
	// stream. For one node it is called from one goroutine at a time. Nil: no
	// reports are taken.
	Reports func(node string, peer spiffeid.ID, r *mesh.Report) error
	// MayReport is asked before, as ConfigFor is and with its errors.
	MayReport func(node string, peer spiffeid.ID) error
	// Gone is told that a node reports no more, after the last of its reports. Nil
	// is told nothing.
	Gone func(node string)
	// Relays is whether peer is another control plane, which passes on what the
	// proxies connected to it report: its stream is of any node that MayReport lets
	// it speak for. Nil: nobody is.
	Relays func(peer spiffeid.ID) bool
	// MaxStreams bounds the proxies connected at a time; 0 is 10000.
	MaxStreams int
	// StreamAge is how long a proxy may stay, give or take a tenth; it is then
	// asked, by a stream that ends without an error, to connect anew, so that
	// replicas share the proxies again after one was away. 0 lets it stay. (gRPC's
	// MaxConnectionAge breaks a stream, which looks like any other failure.)
	StreamAge time.Duration
	Now       func() time.Time // nil is time.Now
}

// Server implements AggregatedDiscoveryServiceServer and AccessLogServiceServer.
type Server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	cfg       Config
	selective Selective // nil when the Source is none
	proxies   *registry
	reporters reporters
	streams   atomic.Int64
	reporting atomic.Int64
	work      chan struct{} // a place for each configuration being computed
	reading   chan struct{} // likewise, report being read

	mu      sync.Mutex
	newest  uint64        // generation
	changed chan struct{} // closed and replaced by Notify
}

// New returns a server; register it with [Server.Register].
func New(cfg Config) (*Server, error) {
	if cfg.Source == nil || cfg.Log == nil {
		return nil, errors.New("xds/server: a server needs a source and a log")
	}
	if cfg.Reports != nil && cfg.MayReport == nil {
		return nil, errors.New("xds/server: reports need MayReport")
	}
	if cfg.MaxStreams <= 0 {
		cfg.MaxStreams = 10_000
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	selective, _ := cfg.Source.(Selective)
	return &Server{
		selective: selective,
		cfg:       cfg, proxies: newRegistry(cfg.Now), changed: make(chan struct{}),
		reporters: reporters{node: map[string]*reporter{}, silent: map[spiffeid.ID]int{}, relayed: map[string]*relay{}},
		work:      make(chan struct{}, runtime.GOMAXPROCS(0)),
		// Reports wait for configurations, not the other way round.
		reading: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
	}, nil
}

// Register adds the services to a gRPC server, whose transport must be TLS that
// verifies client certificates: see [Options].
func (s *Server) Register(r grpc.ServiceRegistrar) {
	discovery.RegisterAggregatedDiscoveryServiceServer(r, s)
	accesslog.RegisterAccessLogServiceServer(r, s)
}

// Notify says that the Source has this generation. It returns at once; a proxy
// that has not yet answered an older one is told the newest after it has, and
// none between.
func (s *Server) Notify(generation uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = generation
	close(s.changed)
	s.changed = make(chan struct{})
}

// news is the generation last notified of, and a channel that is closed at the
// next Notify.
func (s *Server) news() (newest uint64, next <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest, s.changed
}

// DeltaAggregatedResources serves one proxy by the delta protocol.
func (s *Server) DeltaAggregatedResources(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return serve(s, stream, newDelta(stream.Send))
}

// StreamAggregatedResources serves one proxy by the state-of-the-world
// protocol.
func (s *Server) StreamAggregatedResources(stream discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return serve(s, stream, newWhole(stream.Send))
}

// refusal is the status that ends a stream after an error of the Source, nil
// for an error that a connected proxy may outlast.
func refusal(err error) error {
	switch {
	case errors.Is(err, ErrNotFound):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, ErrDenied):
		return status.Error(codes.PermissionDenied, err.Error())
	}
	return nil
}

// enter takes one of the places for streams of a kind.
func (s *Server) enter(streams *atomic.Int64) (leave func(), err error) {
	if n := streams.Add(1); n > int64(s.cfg.MaxStreams) {
		streams.Add(-1)
		return nil, status.Error(codes.ResourceExhausted, fmt.Sprintf("%d proxies are connected, which is the limit", s.cfg.MaxStreams))
	}
	return func() { streams.Add(-1) }, nil
}
