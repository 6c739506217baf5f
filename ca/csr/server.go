// Package csr is the gRPC front of the certificate authority: both ends of
// Istio's IstioCertificateService (istio.io/api security/v1alpha1).
//
// [Server] answers requests: a new workload proves itself with a bearer token,
// a running one with the certificate it wants renewed. [Source] is the
// workload's end: it makes the key, asks, renews at half life, and hands the
// current certificate to whoever makes TLS connections.
package csr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	securityapi "istio.io/api/security/v1alpha1"

	"hasp/ca"
)

// maxToken is the longest bearer token looked at, in bytes. ServiceAccount
// tokens have one or two thousand.
const maxToken = 16 << 10

// workloadField is the request's metadata field that names the asking workload,
// NAMESPACE/NAME; Istio's proxies send the pod's name in it.
const workloadField = "WorkloadName"

// ServerConfig is what a Server needs.
type ServerConfig struct {
	CA *ca.CA
	// Verifiers are asked in order what a bearer token is good for; the first
	// that knows it decides.
	Verifiers []Verifier
	// Allow may refuse an identity that has proved itself, with the reason: for
	// instance because no workload has it any more. Nil allows all.
	Allow func(spiffeid.ID) error
	Limit Limit
	// Answered is told the outcome of every request; nil tells nobody.
	Answered func(codes.Code)
	Log      *slog.Logger
	Now      func() time.Time // nil is time.Now
}

// Server implements IstioCertificateServiceServer.
type Server struct {
	securityapi.UnimplementedIstioCertificateServiceServer
	cfg   ServerConfig
	limit *limiter
}

// NewServer returns a server; register it with [Server.Register].
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.CA == nil || cfg.Log == nil {
		return nil, errors.New("csr: a server needs an authority and a log")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Server{cfg: cfg, limit: newLimiter(cfg.Limit)}, nil
}

// Register adds the service to a gRPC server. Its transport must be TLS that
// verifies a client certificate when one is given, and lets clients without one
// in: those come with a token.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	securityapi.RegisterIstioCertificateServiceServer(r, s)
}

// CreateCertificate signs a request for the identity that the caller proves.
// The answer's chain is the leaf, the intermediates, and last all roots in one
// string, as Istio's clients expect.
func (s *Server) CreateCertificate(ctx context.Context, req *securityapi.IstioCertificateRequest) (*securityapi.IstioCertificateResponse, error) {
	from := remote(ctx)
	resp, id, err := s.create(ctx, from, req)
	if s.cfg.Answered != nil {
		s.cfg.Answered(status.Code(err))
	}
	if err != nil {
		s.cfg.Log.Warn("certificate refused", slog.String("peer", from), slog.String("identity", id.String()),
			slog.String("code", status.Code(err).String()), slog.String("why", status.Convert(err).Message()))
		return nil, err
	}
	return resp, nil
}

func (s *Server) create(ctx context.Context, from string, req *securityapi.IstioCertificateRequest) (*securityapi.IstioCertificateResponse, spiffeid.ID, error) {
	if !s.limit.allow(from) {
		return nil, spiffeid.ID{}, status.Error(codes.ResourceExhausted, "too many certificate requests, try again later")
	}
	// Before the token: a request that cannot be signed must not use it up.
	if _, err := ca.ParseRequest([]byte(req.GetCsr())); err != nil {
		return nil, spiffeid.ID{}, status.Error(codes.InvalidArgument, err.Error())
	}
	id, err := s.authenticate(ctx, req.GetMetadata().GetFields()[workloadField].GetStringValue())
	switch {
	case errors.Is(err, ErrUnavailable):
		return nil, id, status.Error(codes.Unavailable, err.Error())
	case err != nil:
		return nil, id, status.Error(codes.Unauthenticated, err.Error())
	}
	if s.cfg.Allow != nil {
		if err := s.cfg.Allow(id); err != nil {
			return nil, id, status.Error(codes.PermissionDenied, err.Error())
		}
	}
	svid, err := s.cfg.CA.Sign([]byte(req.GetCsr()), id, seconds(req.GetValidityDuration()))
	if err != nil {
		return nil, id, status.Error(codes.Internal, err.Error())
	}
	s.cfg.Log.Info("certificate signed", slog.String("peer", from), slog.String("identity", id.String()), slog.Time("until", svid.NotAfter))
	return &securityapi.IstioCertificateResponse{CertChain: append(svid.Chain, string(s.cfg.CA.Bundle()))}, id, nil
}

// authenticate says who asks. A token decides alone when there is one, so that
// a bad token is an error to be seen and not covered by a certificate.
func (s *Server) authenticate(ctx context.Context, workload string) (spiffeid.ID, error) {
	token, err := bearer(ctx)
	if err != nil {
		return spiffeid.ID{}, err
	}
	if token == "" {
		return peerIdentity(ctx, s.cfg.CA.TrustDomain(), s.cfg.Now())
	}
	for _, v := range s.cfg.Verifiers {
		id, err := v.Verify(ctx, token, workload)
		if errors.Is(err, ErrNotMine) {
			continue
		}
		return id, err
	}
	return spiffeid.ID{}, errors.New("nothing here knows such a token")
}

// bearer is the token of the authorization header, or "" when there is none.
func bearer(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", errors.New("more than one authorization header")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", errors.New("the authorization header holds no bearer token")
	}
	if len(token) > maxToken {
		return "", fmt.Errorf("the bearer token is longer than %d bytes", maxToken)
	}
	return token, nil
}

func remote(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}

// seconds converts the request's field; what does not fit asks for the longest.
func seconds(n int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Second)
	return time.Duration(min(max(n, 0), most)) * time.Second
}
