package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// identity is who is at the other end, and until when that is proved.
type identity struct {
	id    spiffeid.ID
	until time.Time
}

// peerOf takes the identity from the client certificate that the handshake
// verified.
func peerOf(ctx context.Context, now time.Time) (identity, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return identity{}, errors.New("the connection has no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return identity{}, errors.New("the connection is not TLS")
	}
	if len(info.State.VerifiedChains) == 0 {
		return identity{}, errors.New("a client certificate is required")
	}
	leaf := info.State.VerifiedChains[0][0]
	if now.After(leaf.NotAfter) {
		return identity{}, errExpired
	}
	id, err := x509svid.IDFromCert(leaf)
	if err != nil {
		return identity{}, fmt.Errorf("the client certificate is no SVID: %w", err)
	}
	return identity{id, leaf.NotAfter}, nil
}

// nodeName takes the node's id, which is NAMESPACE/NAME, or as Istio's proxies
// write it, TYPE~IP~NAME.NAMESPACE~DOMAIN.
func nodeName(id string) (string, error) {
	if parts := strings.Split(id, "~"); len(parts) == 4 {
		if i := strings.LastIndexByte(parts[2], '.'); i > 0 {
			return parts[2][i+1:] + "/" + parts[2][:i], nil
		}
	}
	ns, name, ok := strings.Cut(id, "/")
	if !ok || ns == "" || name == "" || len(id) > maxNameLength {
		return "", errors.New("node.id must be NAMESPACE/NAME of the workload")
	}
	return id, nil
}
