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
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"
	securityapi "istio.io/api/security/v1alpha1"
)

const (
	requestTimeout = 10 * time.Second
	maxResponse    = 1 << 20 // bytes: a chain and some roots
)

// answer is a certificate as it was received and checked.
type answer struct {
	cert  *tls.Certificate
	roots *x509.CertPool
}

// request makes a key, asks for its certificate over a connection of its own
// (which shows the current certificate) and checks what comes back.
func (s *Source) request(ctx context.Context) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	// passthrough: the dialer gets the address as it is, no resolver of gRPC.
	conn, err := grpc.NewClient("passthrough:///"+s.cfg.Target,
		grpc.WithTransportCredentials(credentials.NewTLS(s.ControlPlaneTLS())),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return s.cfg.Dial(ctx, address) }),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", s.cfg.Target, err)
	}
	defer conn.Close()
	if _, err := s.Certificate(); err != nil && s.cfg.Token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.cfg.Token)
	}
	resp, err := securityapi.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx, &securityapi.IstioCertificateRequest{
		Csr:              string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
		ValidityDuration: int64(s.cfg.Lifetime / time.Second),
		Metadata:         &structpb.Struct{Fields: map[string]*structpb.Value{workloadField: structpb.NewStringValue(s.cfg.Workload)}},
	})
	if err != nil {
		return nil, fmt.Errorf("ask %s for a certificate: %w", s.cfg.Target, err)
	}
	got, err := check(resp.GetCertChain(), key, s.cfg.ID)
	if err != nil {
		return nil, fmt.Errorf("the certificate from %s: %w", s.cfg.Target, err)
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
	got := &answer{cert: &tls.Certificate{PrivateKey: key}, roots: x509.NewCertPool()}
	if !got.roots.AppendCertsFromPEM([]byte(chain[last])) {
		return nil, errors.New("the last part of the chain holds no root")
	}
	mid := x509.NewCertPool()
	for i, part := range chain[:last] {
		block, _ := pem.Decode([]byte(part))
		if block == nil {
			return nil, fmt.Errorf("part %d of the chain is not PEM", i)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("part %d of the chain: %w", i, err)
		}
		got.cert.Certificate = append(got.cert.Certificate, block.Bytes)
		if i == 0 {
			got.cert.Leaf = cert
		} else {
			mid.AddCert(cert)
		}
	}
	leaf := got.cert.Leaf
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("it is for another key")
	}
	if err := verifyChain(leaf, mid, got.roots, id, x509.ExtKeyUsageClientAuth); err != nil {
		return nil, err
	}
	return got, nil
}

func verifyServer(cs tls.ConnectionState, roots *x509.CertPool, id spiffeid.ID) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("csr: the control plane presented no certificate")
	}
	mid := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		mid.AddCert(c)
	}
	if err := verifyChain(cs.PeerCertificates[0], mid, roots, id, x509.ExtKeyUsageServerAuth); err != nil {
		return fmt.Errorf("csr: the control plane: %w", err)
	}
	return nil
}

func verifyChain(leaf *x509.Certificate, mid, roots *x509.CertPool, id spiffeid.ID, use x509.ExtKeyUsage) error {
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: mid, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
		return err
	}
	got, err := x509svid.IDFromCert(leaf)
	if err != nil {
		return err
	}
	if got != id {
		return fmt.Errorf("it is for %s, want %s", got, id)
	}
	return nil
}
