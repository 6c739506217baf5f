package envtest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/ca/csr"
	"hasp/cluster"
	"hasp/mesh"
	"hasp/xds/client"
)

// proxy of a pod: it gets a certificate by the pod's token and follows its
// configuration, as the sidecar does. cfg says where from.
func proxy(t *testing.T, p *corev1.Pod, cfg csr.SourceConfig) (*csr.Source, <-chan *mesh.ProxyConfig) {
	t.Helper()
	configs := make(chan *mesh.ProxyConfig, 100)
	svid := follower(t, p, cfg, func(cfg *mesh.ProxyConfig) error { configs <- cfg; return nil })
	return svid, configs
}

// follower is a proxy that does with its configuration what take does.
func follower(t *testing.T, p *corev1.Pod, cfg csr.SourceConfig, take func(*mesh.ProxyConfig) error) *csr.Source {
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
	c, err := client.New(client.Config{Target: cfg.Target, Node: node, TLS: svid.ControlPlaneTLS, Dial: cfg.Dial, Log: cfg.Log,
		OnConfig: take})
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
	return svid
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

// The leader says in an object's status what became of it everywhere, also at
// proxies that another replica has.
func TestStatusKnowsTheOtherReplica(t *testing.T) {
	need(t)
	forget(t)
	port := 0
	at := func(address string) func(*cluster.Config) {
		replicaPod(t, "istiod-"+address[len(address)-1:], address)
		return func(c *cluster.Config) {
			c.Listeners.Metrics.Close()
			ln, err := net.Listen("tcp", fmt.Sprintf("%s:%d", address, port))
			if err != nil {
				t.Fatal(err)
			}
			port, c.Listeners.Metrics = ln.Addr().(*net.TCPAddr).Port, ln
		}
	}
	begin(t, "istiod-2", at("127.0.0.2")).ready(t).leads(t).serve(t)
	b := begin(t, "istiod-3", at("127.0.0.3")).ready(t)
	namespace(t, "both", nil)
	took := make(chan struct{}, 100)
	follower(t, meshed(t, "both", "web-1"), csr.SourceConfig{
		Target: b.cfg.Listeners.XDS.Addr().String(), Roots: secret(t, cluster.OwnSecret).Data["root-cert.pem"],
	}, func(c *mesh.ProxyConfig) error {
		if c.Inbound.Default.Mode == mesh.ModeStrict {
			return errors.New("no STRICT for me")
		}
		took <- struct{}{}
		return nil
	})
	select {
	case <-took:
	case <-time.After(patience):
		t.Fatal("no configuration")
	}
	for mode, want := range map[string]string{
		"STRICT":     "both/web-1 refused it: no STRICT for me",
		"PERMISSIVE": "Every connected proxy is up to date.",
	} {
		if out, err := kubectl(t, "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: "+strings.ToLower(mode)+", namespace: both}\nspec: {mtls: {mode: "+mode+"}}\n", "apply", "-f", "-"); err != nil {
			t.Fatal(out)
		}
		eventually(t, mode+" is told of", func() (bool, error) {
			got, err := kubectl(t, "", "get", "peerauthentication", "-n", "both", strings.ToLower(mode), "-o", "jsonpath={.status.conditions[0].message}")
			if err == nil && got != want {
				err = errors.New(got)
			}
			return err == nil, err
		})
		if out, err := kubectl(t, "", "delete", "peerauthentication", "-n", "both", "--all"); err != nil {
			t.Fatal(out)
		}
	}
}

// replicaPod is the pod that a replica of this process is in, so that the others
// find it.
func replicaPod(t *testing.T, name, address string) {
	t.Helper()
	pods := env.client.CoreV1().Pods(cluster.Namespace)
	yes, no := true, false
	p, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "istiod", "istio": "pilot"}},
		Spec: corev1.PodSpec{
			ServiceAccountName: "istiod",
			SecurityContext:    &corev1.PodSecurityContext{RunAsNonRoot: &yes, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{Name: "discovery", Image: "hasp", SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		now := int64(0)
		if err := pods.Delete(context.Background(), name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			t.Error(err)
		}
	})
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	if _, err := pods.UpdateStatus(t.Context(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}
