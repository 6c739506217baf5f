package envtest_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"hasp/ca/csr"
	"hasp/cluster"
	"hasp/mesh"
	"hasp/xds/client"
)

// proxy of a pod: it gets a certificate by the pod's token and follows its
// configuration, as the sidecar does. cfg says where from.
func proxy(t *testing.T, p *corev1.Pod, cfg csr.SourceConfig) (*csr.Source, <-chan *mesh.ProxyConfig) {
	t.Helper()
	node := p.Namespace + "/" + p.Name
	cfg.ServerID = spiffeid.RequireFromString("spiffe://cluster.local/ns/istio-system/sa/istiod")
	cfg.ID = spiffeid.RequireFromString(mesh.Identity("cluster.local", p.Namespace, "default"))
	cfg.Workload, cfg.TokenFile = node, file(t, token(t, p.Namespace, cluster.TokenAudience, p))
	cfg.Log = slog.New(slog.DiscardHandler)
	svid, err := csr.NewSource(cfg)
	if err != nil {
		t.Fatal(err)
	}
	configs := make(chan *mesh.ProxyConfig, 100)
	c, err := client.New(client.Config{Target: cfg.Target, Node: node, TLS: svid.ControlPlaneTLS, Dial: cfg.Dial, Log: cfg.Log,
		OnConfig: func(cfg *mesh.ProxyConfig) error { configs <- cfg; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return svid.Run(ctx) })
	g.Go(func() error {
		select {
		case <-svid.Ready():
			return c.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	t.Cleanup(func() {
		stop()
		if err := g.Wait(); err != nil {
			t.Errorf("the proxy of %s: %v", node, err)
		}
	})
	return svid, configs
}

// next configuration of a proxy.
func next(t *testing.T, configs <-chan *mesh.ProxyConfig, svid *csr.Source) *mesh.ProxyConfig {
	t.Helper()
	select {
	case c := <-configs:
		return c
	case <-time.After(patience):
		t.Fatalf("no configuration; certificate: %+v", svid.Status())
		return nil
	}
}

// When a replica stops, its proxies go to the other one, which finds them up to
// date and tells them what changes from then on.
func TestProxyMovesToTheOtherReplica(t *testing.T) {
	need(t)
	forget(t)
	a := begin(t, "a", nil).ready(t).leads(t).serve(t)
	b := begin(t, "b", nil).ready(t)
	namespace(t, "moves", nil)
	p := meshed(t, "moves", "web-1")
	node := "moves/web-1"
	svid, configs := proxy(t, p, csr.SourceConfig{
		Target: "istiod.istio-system.svc:15012", Roots: secret(t, cluster.OwnSecret).Data["root-cert.pem"],
		Dial: func(ctx context.Context, _ string) (net.Conn, error) { // the Service: whoever is there
			var d net.Dialer
			c, err := d.DialContext(ctx, "tcp", a.cfg.Listeners.XDS.Addr().String())
			if err != nil {
				c, err = d.DialContext(ctx, "tcp", b.cfg.Listeners.XDS.Addr().String())
			}
			return c, err
		},
	})
	next(t, configs, svid)
	connected := func(r *replica) func() (bool, error) {
		return func() (bool, error) {
			s := r.status(t).Control
			for _, p := range s.Proxies {
				if p.Node == node {
					return p.Connected && p.AckedGeneration == s.Generation, nil
				}
			}
			return false, nil
		}
	}
	eventually(t, "a has the proxy", connected(a))
	a.end(t)
	eventually(t, "b has the proxy", connected(b))
	b.leads(t).serve(t)
	if out, err := kubectl(t, `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: moves}
spec: {mtls: {mode: STRICT}}
`, "apply", "-f", "-"); err != nil {
		t.Fatal(out)
	}
	for c := next(t, configs, svid); c.Inbound.Default.Mode != mesh.ModeStrict; c = next(t, configs, svid) {
		t.Logf("generation %d is not yet STRICT", c.Generation)
	}
}
