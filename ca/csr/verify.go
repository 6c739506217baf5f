package csr

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"hasp/ca"
)

// ErrNotMine is a Verifier's answer to a token of another kind.
var ErrNotMine = errors.New("not a token of this kind")

// ErrUnavailable is a Verifier's answer, wrapped in the reason, when it cannot
// tell now: the asker's proof may be good, and it should ask again.
var ErrUnavailable = errors.New("the token cannot be verified now")

// Verifier says which identity a bearer token proves. Workload is what the
// asker calls itself, NAMESPACE/NAME, or empty.
type Verifier interface {
	Verify(ctx context.Context, token, workload string) (spiffeid.ID, error)
}

// JoinTokens verifies the single-use tokens of package ca.
type JoinTokens struct{ Tokens *ca.Tokens }

// Verify uses the token up.
func (j JoinTokens) Verify(_ context.Context, token, workload string) (spiffeid.ID, error) {
	grant, err := j.Tokens.Redeem(token, workload)
	return grant.ID, err
}

// peerIdentity is the SPIFFE ID of the client certificate that the TLS
// handshake verified. It is checked to be valid still: a connection can outlive
// the certificate that opened it.
func peerIdentity(ctx context.Context, td spiffeid.TrustDomain, now time.Time) (spiffeid.ID, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return spiffeid.ID{}, errors.New("the connection has no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return spiffeid.ID{}, errors.New("the connection is not TLS")
	}
	if len(info.State.VerifiedChains) == 0 {
		return spiffeid.ID{}, errors.New("neither a token nor a client certificate was given")
	}
	leaf := info.State.VerifiedChains[0][0]
	if now.After(leaf.NotAfter) {
		return spiffeid.ID{}, fmt.Errorf("the client certificate ended at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	id, err := x509svid.IDFromCert(leaf)
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("the client certificate is no SVID: %w", err)
	}
	if !id.MemberOf(td) {
		return spiffeid.ID{}, fmt.Errorf("%s is not of the trust domain %s", id, td)
	}
	return id, nil
}
