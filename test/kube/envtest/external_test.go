package envtest_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	authentication "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/ca"
	"hasp/ca/csr"
	"hasp/cluster"
	"hasp/mesh"
	"hasp/xds/server"
)

// foreign is an authority that is not the mesh's own, as cert-manager's
// istio-csr is: the same service behind a certificate with a DNS name.
type foreign struct {
	addr  string
	roots []byte
}

const foreignName = "istio-csr.cert-manager.svc"

// reviewer takes every ServiceAccount token for the audience istio-ca.
type reviewer struct{}

func (reviewer) Verify(ctx context.Context, token, _ string) (spiffeid.ID, error) {
	r, err := env.client.AuthenticationV1().TokenReviews().Create(ctx, &authentication.TokenReview{
		Spec: authentication.TokenReviewSpec{Token: token, Audiences: []string{cluster.TokenAudience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return spiffeid.ID{}, err
	}
	account := strings.Split(r.Status.User.Username, ":")
	if !r.Status.Authenticated || len(account) != 4 {
		return spiffeid.ID{}, errors.New("no account")
	}
	return spiffeid.FromString(mesh.Identity("cluster.local", account[2], account[3]))
}

func newForeign(t *testing.T) *foreign {
	t.Helper()
	authority, err := ca.Open(ca.Config{TrustDomain: td}, files(t, ca.Config{}))
	if err != nil {
		t.Fatal(err)
	}
	own, err := authority.Server(spiffeid.RequireFromString("spiffe://cluster.local/ns/cert-manager/sa/istio-csr"), foreignName)
	if err != nil {
		t.Fatal(err)
	}
	s, err := csr.NewServer(csr.ServerConfig{CA: authority, Verifiers: []csr.Verifier{reviewer{}}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(server.Options(own)...)
	s.Register(g)
	var eg errgroup.Group
	eg.Go(func() error { return g.Serve(ln) })
	t.Cleanup(func() { g.Stop(); eg.Wait() })
	return &foreign{addr: ln.Addr().String(), roots: authority.Bundle()}
}

// file with a text, as a kubelet mounts it.
func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// With a foreign authority the control plane signs nothing for the mesh: its own
// certificate and the proxies' come from there, its webhooks' from a root that
// only the API server knows, and the roots in the namespaces are not its to
// write.
func TestForeignAuthority(t *testing.T) {
	need(t)
	forget(t)
	f := newForeign(t)
	keep(t, cluster.WebhookSecret, due(t))
	r, err := env.client.CoreV1().ServiceAccounts(cluster.Namespace).CreateToken(t.Context(), "istiod", &authentication.TokenRequest{
		Spec: authentication.TokenRequestSpec{Audiences: []string{cluster.TokenAudience}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a := begin(t, "a", func(c *cluster.Config) {
		c.External = &cluster.External{Address: f.addr, Name: foreignName, TokenFile: file(t, r.Status.Token), RootsFile: file(t, string(f.roots))}
	}).ready(t).leads(t).serve(t)
	if got := a.status(t).Authority; got != f.addr {
		t.Errorf("the authority is %s", got)
	}
	if _, err := certificate(a.cfg.Listeners.Webhook, secret(t, cluster.WebhookSecret).Data["root-cert.pem"]); err != nil {
		t.Errorf("the webhooks' certificate: %v", err)
	}
	if _, err := env.client.CoreV1().Secrets(cluster.Namespace).Get(t.Context(), cluster.OwnSecret, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("there is an authority of our own: %v", err)
	}

	// A proxy: certificate from there, configuration from here.
	namespace(t, "foreign", nil)
	p := meshed(t, "foreign", "web-1")
	svid, config := proxy(t, p, csr.SourceConfig{
		Target: a.cfg.Listeners.XDS.Addr().String(), CA: f.addr, CAName: foreignName, Roots: f.roots,
	})
	select {
	case cfg := <-config:
		if cfg.Generation == 0 {
			t.Error("a configuration of no generation")
		}
	case <-time.After(patience):
		t.Fatalf("no configuration; certificate: %+v", svid.Status())
	}
	_, err = env.client.CoreV1().ConfigMaps("foreign").Get(t.Context(), cluster.RootsConfigMap, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("the roots were distributed: %v", err)
	}
}
