package csr

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	securityapi "istio.io/api/security/v1alpha1"

	"hasp/ca"
)

const istioCSR = "cert-manager-istio-csr.cert-manager.svc"

// fakeIstioCSR does what cert-manager's istio-csr does: it serves with a DNS
// name, takes a bearer token and nothing else, signs the request as it is if it
// asks for the token's identity alone, and puts the chain into one part.
type fakeIstioCSR struct {
	securityapi.UnimplementedIstioCertificateServiceServer
	root   *x509.Certificate
	key    *ecdsa.PrivateKey
	addr   string
	signed chan struct{}

	mu    sync.Mutex
	token string
}

func newIstioCSR(t *testing.T) *fakeIstioCSR {
	t.Helper()
	f := &fakeIstioCSR{token: "first", signed: make(chan struct{}, 100)}
	f.root, f.key = certificate(t, nil, nil, &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour),
	})
	leaf, key := certificate(t, f.root, f.key, &x509.Certificate{
		DNSNames: []string{istioCSR}, NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	pool := x509.NewCertPool()
	pool.AddCert(f.root)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = ln.Addr().String()
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}},
		ClientAuth:   tls.VerifyClientCertIfGiven, ClientCAs: pool,
	})))
	securityapi.RegisterIstioCertificateServiceServer(g, f)
	var eg errgroup.Group
	eg.Go(func() error { return g.Serve(ln) })
	t.Cleanup(func() { g.Stop(); _ = eg.Wait() })
	return f
}

func (f *fakeIstioCSR) CreateCertificate(ctx context.Context, req *securityapi.IstioCertificateRequest) (*securityapi.IstioCertificateResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	md, _ := metadata.FromIncomingContext(ctx)
	if got := md.Get("authorization"); len(got) != 1 || got[0] != "Bearer "+f.token {
		return nil, status.Error(codes.Unauthenticated, "request authenticate failure")
	}
	if p, _ := peer.FromContext(ctx); len(p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates) > 0 {
		return nil, status.Error(codes.Unauthenticated, "a certificate was shown")
	}
	block, _ := pem.Decode([]byte(req.GetCsr()))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if len(csr.URIs) != 1 || csr.URIs[0].String() != boards.String() || len(csr.Extensions) != 1 || csr.Subject.String() != "" {
		return nil, status.Error(codes.Unauthenticated, "request authenticate failure")
	}
	mid, key, err := sign(f.root, f.key, &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour),
	}, nil)
	if err != nil {
		return nil, err
	}
	leaf, _, err := sign(mid, key, &x509.Certificate{
		URIs: csr.URIs, NotAfter: time.Now().Add(time.Duration(req.GetValidityDuration()) * time.Second),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, csr.PublicKey.(*ecdsa.PublicKey))
	if err != nil {
		return nil, err
	}
	f.signed <- struct{}{}
	return &securityapi.IstioCertificateResponse{CertChain: []string{asPEM(leaf, mid), asPEM(f.root)}}, nil
}

// The certificates come from another server than the configuration, which has a
// DNS name and wants the token each time.
func TestOtherAuthority(t *testing.T) {
	f := newIstioCSR(t)
	v := &volume{dir: t.TempDir()}
	v.write(t, map[string]string{"root-cert.pem": asPEM(f.root), "istio-token": "first"})
	source := func(name string) *Source {
		s, err := NewSource(SourceConfig{
			Target: "127.0.0.1:1", ServerID: istiod, ID: boards, Workload: "shop/boards-1", CA: f.addr, CAName: name, Lifetime: time.Hour,
			RootsFile: v.file("root-cert.pem"), TokenFile: v.file("istio-token"), Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := source(istioCSR)
	s.due = func(time.Time, time.Time) time.Duration { return 0 }
	run(t, s)
	await(t, s.Ready(), "the certificate")
	f.mu.Lock()
	f.token = "second" // the kubelet and istio-csr know of a new one
	v.write(t, map[string]string{"root-cert.pem": asPEM(f.root), "istio-token": "second"})
	f.mu.Unlock()
	await(t, s.Changed(), "the renewal")
	cert, err := s.Certificate()
	if err != nil || cert.Leaf.URIs[0].String() != boards.String() || len(cert.Certificate) != 2 {
		t.Fatalf("got %+v, %v", cert, err)
	}
	if err := verifyName(stateOf(cert), s.Roots(), istioCSR); err == nil {
		t.Error("a workload passes for the authority")
	}

	_, err = source("istiod.istio-system.svc").request(t.Context(), true)
	const want = "csr: the authority istiod.istio-system.svc: x509: certificate is valid for " + istioCSR + ", not istiod.istio-system.svc"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("another name: %v\nwant %s", err, want)
	}
	const incomplete = "csr: to ask 127.0.0.1:2 for certificates, the name it presents and a token are needed"
	_, err = NewSource(SourceConfig{Target: "127.0.0.1:1", ServerID: istiod, ID: boards, CA: "127.0.0.1:2", Log: slog.New(slog.DiscardHandler)})
	if err == nil || err.Error() != incomplete {
		t.Errorf("without a name: %v", err)
	}
}

func certificate(t *testing.T, parent *x509.Certificate, by *ecdsa.PrivateKey, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	cert, key, err := sign(parent, by, template, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// sign makes a certificate, self-signed without a parent, for the key or one it makes.
func sign(parent *x509.Certificate, by *ecdsa.PrivateKey, template *x509.Certificate, public *ecdsa.PublicKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if public == nil {
		public = &key.PublicKey
	}
	template.SerialNumber, template.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Minute)
	template.Subject.CommonName = template.SerialNumber.String()
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

func asPEM(certs ...*x509.Certificate) string {
	var b strings.Builder
	for _, c := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return b.String()
}

// tlsState is what a client sees of a control plane of the authority.
func tlsState(t *testing.T, authority *ca.CA) tls.ConnectionState {
	t.Helper()
	cert, err := authority.Issue(istiod, 0)
	if err != nil {
		t.Fatal(err)
	}
	return stateOf(cert)
}

func stateOf(cert *tls.Certificate) tls.ConnectionState {
	var cs tls.ConnectionState
	for _, der := range cert.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			panic(err)
		}
		cs.PeerCertificates = append(cs.PeerCertificates, c)
	}
	return cs
}
