package csr

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"
	securityapi "istio.io/api/security/v1alpha1"
)

const (
	requestTimeout = 10 * time.Second
	// caTimeout is for an authority of somebody else: istio-csr waits up to a
	// minute for whoever signs behind it.
	caTimeout   = time.Minute
	maxResponse = 2 << 20 // bytes: a chain and roots, as many as a file may hold
)

// answer is a certificate as it was received and checked.
type answer struct {
	cert  *tls.Certificate
	roots []byte // PEM
}

// request makes a key, asks for its certificate over a connection of its own
// (which shows the current certificate, or a token) and checks what comes back.
func (s *Source) request(ctx context.Context, byToken bool) (*answer, error) {
	target, timeout := s.cfg.Target, requestTimeout
	if s.cfg.CA != "" {
		target, timeout = s.cfg.CA, caTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.readRoots(); err != nil {
		return nil, err
	}
	select {
	case <-s.news: // the answer to it is this request
	default:
	}
	if byToken {
		token, err := s.token()
		if err != nil {
			return nil, err
		}
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	// Our own authority signs for whom the proof names; istio-csr signs the
	// request as it is, and refuses one that asks for anything else.
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{s.cfg.ID.URL()}}, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	// passthrough: the dialer gets the address as it is, no resolver of gRPC.
	conn, err := grpc.NewClient("passthrough:///"+target,
		grpc.WithTransportCredentials(credentials.NewTLS(s.authorityTLS(byToken))),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return s.cfg.Dial(ctx, address) }),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", target, err)
	}
	defer conn.Close()
	resp, err := securityapi.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx, &securityapi.IstioCertificateRequest{
		Csr:              string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
		ValidityDuration: int64(s.cfg.Lifetime / time.Second),
		Metadata:         &structpb.Struct{Fields: map[string]*structpb.Value{workloadField: structpb.NewStringValue(s.cfg.Workload)}},
	})
	if err != nil {
		return nil, fmt.Errorf("ask %s for a certificate: %w", target, err)
	}
	got, err := check(resp.GetCertChain(), key, s.cfg.ID)
	if err != nil {
		return nil, fmt.Errorf("the certificate from %s: %w", target, err)
	}
	return got, nil
}

// check takes a chain in Istio's form apart (leaf, intermediates, roots) and
// verifies that it is for our key and identity and leads to the roots that came
// with it. Those replace the ones we had: they came over a connection verified
// with those, which is how a root rotates.
func check(chain []string, key *ecdsa.PrivateKey, id spiffeid.ID) (*answer, error) {
	if len(chain) < 2 {
		return nil, fmt.Errorf("a chain of %d parts has no root", len(chain))
	}
	last := len(chain) - 1
	got := &answer{cert: &tls.Certificate{PrivateKey: key}, roots: []byte(chain[last])}
	roots, mid := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM(got.roots) {
		return nil, errors.New("the last part of the chain holds no root")
	}
	for i, part := range chain[:last] {
		block, rest := pem.Decode([]byte(part))
		if block == nil {
			return nil, fmt.Errorf("part %d of the chain is not PEM", i)
		}
		for ; block != nil; block, rest = pem.Decode(rest) { // some put all in one part
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("part %d of the chain: %w", i, err)
			}
			got.cert.Certificate = append(got.cert.Certificate, block.Bytes)
			if got.cert.Leaf == nil {
				got.cert.Leaf = cert
			} else {
				mid.AddCert(cert)
			}
		}
	}
	leaf := got.cert.Leaf
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("it is for another key")
	}
	if err := verifyChain(leaf, mid, roots, id, x509.ExtKeyUsageClientAuth); err != nil {
		return nil, err
	}
	return got, nil
}
