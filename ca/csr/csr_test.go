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
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	securityapi "istio.io/api/security/v1alpha1"

	"hasp/ca"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	td     = spiffeid.RequireTrustDomainFromString("cluster.local")
	istiod = spiffeid.RequireFromString("spiffe://cluster.local/ns/istio-system/sa/istiod")
	boards = spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/boards")
	rogue  = spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/rogue")
)

// plane is a control plane on loopback: a real authority behind real TLS.
type plane struct {
	ca     *ca.CA
	tokens *ca.Tokens
	dir    string
	addr   string
	stop   func()
}

func newPlane(t *testing.T, authority ca.Config, cfg ServerConfig, as spiffeid.ID) *plane {
	t.Helper()
	authority.Dir, authority.TrustDomain = t.TempDir(), td
	p := &plane{tokens: ca.NewTokens(0, nil), dir: authority.Dir}
	var err error
	if p.ca, err = ca.Load(authority); err != nil {
		t.Fatal(err)
	}
	cert, err := p.ca.Issue(as, 0)
	if err != nil {
		t.Fatal(err)
	}
	cfg.CA, cfg.Log = p.ca, slog.New(slog.DiscardHandler)
	cfg.Verifiers = append(cfg.Verifiers, JoinTokens{p.tokens})
	srv, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{*cert}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: p.ca.Roots(),
	})))
	srv.Register(g)
	var eg errgroup.Group
	eg.Go(func() error { return g.Serve(ln) })
	p.addr = ln.Addr().String()
	p.stop = func() { g.Stop(); eg.Wait() }
	t.Cleanup(p.stop)
	return p
}

func (p *plane) token(t *testing.T, id spiffeid.ID, workload string) string {
	t.Helper()
	s, err := p.tokens.Issue(id, workload, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (p *plane) source(t *testing.T, token string) *Source {
	t.Helper()
	s, err := NewSource(SourceConfig{
		Target: p.addr, ServerID: istiod, ID: boards, Workload: "shop/boards-1",
		Roots: p.ca.Bundle(), Token: token, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run starts Run and stops it with the test.
func run(t *testing.T, s *Source) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var eg errgroup.Group
	eg.Go(func() error { return s.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		if err := eg.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func await(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("%s: not within %s", what, patience)
	}
}

func TestTokenThenRenewalByCertificate(t *testing.T) {
	p := newPlane(t, ca.Config{}, ServerConfig{}, istiod)
	s := p.source(t, p.token(t, boards, "shop/boards-1"))
	s.due = func(time.Time, time.Time) time.Duration { return 0 } // as often as allowed
	if _, err := s.Certificate(); err == nil || err.Error() != "csr: there is no certificate yet" {
		t.Error(err)
	}
	run(t, s)
	await(t, s.Ready(), "the first certificate")
	changed := s.Changed()
	first, err := s.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	if got := first.Leaf.URIs[0].String(); got != boards.String() {
		t.Errorf("it is for %s", got)
	}
	await(t, changed, "the renewal")
	second, err := s.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	if first.Leaf.PublicKey.(*ecdsa.PublicKey).Equal(second.Leaf.PublicKey) {
		t.Error("the renewed certificate has the same key")
	}
	if st := s.Status(); st.Err != nil || st.ID != boards || !st.NotAfter.Equal(second.Leaf.NotAfter) {
		t.Errorf("status %+v", st)
	}
}

// Whoever asks for the certificate at any moment gets a valid one, while it is
// renewed again and again.
func TestRenewalLeavesNoGap(t *testing.T) {
	p := newPlane(t, ca.Config{}, ServerConfig{Limit: Limit{PerAddress: 1000, Burst: 1000}}, istiod)
	s := p.source(t, p.token(t, boards, "shop/boards-1"))
	s.due = func(time.Time, time.Time) time.Duration { return 0 }
	run(t, s)
	await(t, s.Ready(), "the first certificate")
	asked := 0
	for range 3 {
		changed := s.Changed()
		for renewed := false; !renewed; asked++ {
			cert, err := s.GetClientCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.GetCertificate(nil); err != nil || !time.Now().Before(cert.Leaf.NotAfter) {
				t.Fatalf("not valid: %v", err)
			}
			select {
			case <-changed:
				renewed = true
			default:
			}
		}
	}
	if asked < 3 {
		t.Errorf("asked %d times only", asked)
	}
}

// A new root reaches the workloads with their next certificate, before
// anything is signed under it.
func TestRootRotation(t *testing.T) {
	p := newPlane(t, ca.Config{}, ServerConfig{}, istiod)
	s := p.source(t, p.token(t, boards, "shop/boards-1"))
	s.due = func(time.Time, time.Time) time.Duration { return 0 }
	run(t, s)
	await(t, s.Ready(), "the first certificate")
	next, err := ca.Load(ca.Config{Dir: t.TempDir(), TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "root-cert.pem"), append(p.ca.Bundle(), next.Bundle()...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.ca.Reload(); err != nil {
		t.Fatal(err)
	}
	cert, err := next.Issue(istiod, 0)
	if err != nil {
		t.Fatal(err)
	}
	mid := x509.NewCertPool()
	for _, der := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		mid.AddCert(c)
	}
	for range 2 { // a request may have been on its way
		await(t, s.Changed(), "a renewal")
	}
	if err := verifyChain(cert.Leaf, mid, s.Roots(), istiod, x509.ExtKeyUsageServerAuth); err != nil {
		t.Errorf("the new root is not trusted: %v", err)
	}
}

// clockOf gives a Source a clock that can be past the end of its certificate.
func clockOf(s *Source) (late *atomic.Bool) {
	late = new(atomic.Bool)
	s.now = func() time.Time {
		if late.Load() {
			return time.Now().Add(48 * time.Hour)
		}
		return time.Now()
	}
	return late
}

// The control plane goes away and comes back: the certificate stays, expires,
// and the error says that there is no token any more.
func TestControlPlaneAway(t *testing.T) {
	p := newPlane(t, ca.Config{}, ServerConfig{}, istiod)
	s := p.source(t, p.token(t, boards, "shop/boards-1"))
	late := clockOf(s)
	s.due = func(time.Time, time.Time) time.Duration { return 0 }
	run(t, s)
	await(t, s.Ready(), "the first certificate")
	p.stop()
	until(t, "an error", func() bool { return s.Status().Err != nil })
	if _, err := s.Certificate(); err != nil {
		t.Errorf("a valid certificate was dropped: %v", err)
	}
	late.Store(true)
	until(t, "the error says that it ended", func() bool { return strings.Contains(s.Status().Err.Error(), "and its token is used up") })
	if _, err := s.Certificate(); err == nil || !strings.HasPrefix(err.Error(), "csr: the certificate ended at ") {
		t.Errorf("got %v", err)
	}
}

// Only the identity in ServerID is asked; another one of the same mesh is not.
func TestWrongControlPlane(t *testing.T) {
	p := newPlane(t, ca.Config{}, ServerConfig{}, rogue)
	s := p.source(t, p.token(t, boards, "shop/boards-1"))
	_, err := s.request(t.Context(), true)
	if want := "csr: the control plane: it is for " + rogue.String() + ", want " + istiod.String(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// ask calls the service as a client that may do anything.
func (p *plane) ask(t *testing.T, cert *tls.Certificate, req *securityapi.IstioCertificateRequest, header ...string) (*securityapi.IstioCertificateResponse, error) {
	t.Helper()
	cfg := &tls.Config{InsecureSkipVerify: true}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	conn, err := grpc.NewClient(p.addr, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), header...)
	return securityapi.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx, req)
}

func csrPEM(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func TestServerRefuses(t *testing.T) {
	gone := errors.New("no workload has the identity " + rogue.String())
	p := newPlane(t, ca.Config{}, ServerConfig{Allow: func(id spiffeid.ID) error {
		if id == rogue {
			return gone
		}
		return nil
	}}, istiod)
	used := p.token(t, boards, "shop/boards-1")
	req := &securityapi.IstioCertificateRequest{Csr: csrPEM(t)}
	if _, err := p.ask(t, nil, req, "authorization", "Bearer "+used); err != nil {
		t.Fatal(err)
	}
	unused := p.token(t, boards, "shop/boards-1")
	rogueCert, err := p.ca.Issue(rogue, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		cert   *tls.Certificate
		csr    string
		header []string
		code   codes.Code
		want   string
	}{
		{"nothing", nil, req.Csr, nil, codes.Unauthenticated, "neither a token nor a client certificate was given"},
		{"used token", nil, req.Csr, []string{"authorization", "Bearer " + used}, codes.Unauthenticated, "the token is unknown, used or expired"},
		{"used token with certificate", rogueCert, req.Csr, []string{"authorization", "Bearer " + used}, codes.Unauthenticated, "the token is unknown, used or expired"},
		{"basic", nil, req.Csr, []string{"authorization", "Basic eA=="}, codes.Unauthenticated, "the authorization header holds no bearer token"},
		{"two headers", nil, req.Csr, []string{"authorization", "Bearer a", "authorization", "Bearer b"}, codes.Unauthenticated, "more than one authorization header"},
		{"identity gone", rogueCert, req.Csr, nil, codes.PermissionDenied, gone.Error()},
		{"no request", nil, "", []string{"authorization", "Bearer " + unused}, codes.InvalidArgument, "parse the certificate request: asn1: syntax error: sequence truncated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := p.ask(t, tt.cert, &securityapi.IstioCertificateRequest{Csr: tt.csr}, tt.header...)
			if status.Code(err) != tt.code || status.Convert(err).Message() != tt.want {
				t.Errorf("got %v\nwant %v %s", err, tt.code, tt.want)
			}
		})
	}
	// A request that could not be signed left the token good.
	if _, err := p.ask(t, nil, req, "authorization", "Bearer "+unused); err != nil {
		t.Error(err)
	}
}

// Renewal gives the identity of the certificate, whatever the request says.
func TestRenewalIsForTheSameIdentity(t *testing.T) {
	p := newPlane(t, ca.Config{}, ServerConfig{}, istiod)
	cert, err := p.ca.Issue(boards, 0)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := p.ask(t, cert, &securityapi.IstioCertificateRequest{Csr: csrPEM(t), ValidityDuration: 1 << 62})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(resp.CertChain[0]))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if got := leaf.URIs[0].String(); got != boards.String() {
		t.Errorf("signed for %s", got)
	}
	if last := resp.CertChain[len(resp.CertChain)-1]; last != string(p.ca.Bundle()) {
		t.Error("the last part of the chain is not the roots")
	}
}

func TestRateLimit(t *testing.T) {
	p := newPlane(t, ca.Config{}, ServerConfig{Limit: Limit{PerAddress: 0.001, Burst: 2}}, istiod)
	cert, err := p.ca.Issue(boards, 0)
	if err != nil {
		t.Fatal(err)
	}
	req := &securityapi.IstioCertificateRequest{Csr: csrPEM(t)}
	for range 2 {
		if _, err := p.ask(t, cert, req); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.ask(t, cert, req); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
}

func TestLimiterIsBounded(t *testing.T) {
	l := newLimiter(Limit{})
	for i := range 3 * maxAddresses {
		l.allow(net.JoinHostPort(net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)).String(), "1"))
	}
	if n := len(l.each); n > maxAddresses {
		t.Errorf("%d addresses are remembered", n)
	}
}

// TestRefusedProofEnds: without a certificate a token that is not accepted will
// never be; the proxy must end and be started anew.
func TestRefusedProofEnds(t *testing.T) {
	p := newPlane(t, ca.Config{}, ServerConfig{}, istiod)
	err := p.source(t, "spent").Run(t.Context())
	const want = "csr: spiffe://cluster.local/ns/shop/sa/boards can no longer prove itself and needs a new token: "
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Run with a token that is refused: %v, want %s...", err, want)
	}
}

// away is a verifier that cannot reach what it asks.
type away struct{}

func (away) Verify(context.Context, string, string) (spiffeid.ID, error) {
	return spiffeid.ID{}, fmt.Errorf("%w: the API server does not answer", ErrUnavailable)
}

// A verifier that cannot tell is no refusal: the proxy asks again.
func TestVerifierAway(t *testing.T) {
	answered := make(chan codes.Code, 1)
	p := newPlane(t, ca.Config{}, ServerConfig{Verifiers: []Verifier{away{}}, Answered: func(c codes.Code) { answered <- c }}, istiod)
	_, err := p.ask(t, nil, &securityapi.IstioCertificateRequest{Csr: csrPEM(t)}, "authorization", "Bearer x")
	if want := "the token cannot be verified now: the API server does not answer"; status.Code(err) != codes.Unavailable || status.Convert(err).Message() != want {
		t.Errorf("got %v, want Unavailable: %s", err, want)
	}
	if code := <-answered; code != codes.Unavailable {
		t.Errorf("counted as %v", code)
	}
}
