package control_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"
	"sigs.k8s.io/yaml"

	"hasp/ca"
	"hasp/ca/csr"
	"hasp/control"
	"hasp/mesh"
	"hasp/source"
	"hasp/xds/client"
)

// patience is how long anything may take on a busy machine under the race
// detector.
const patience = time.Minute

// plane is a control plane over an API server that is a fake; CA, certificate
// service and xDS are real, on loopback.
type plane struct {
	*control.Control
	api    dynamic.Interface
	tokens *ca.Tokens
	ca     *ca.CA
	addr   string
}

func start(t *testing.T, objects ...string) *plane {
	t.Helper()
	return startAs(t, func(*control.Config) {}, objects...)
}

func startAs(t *testing.T, change func(*control.Config), objects ...string) *plane {
	t.Helper()
	kinds := map[schema.GroupVersionResource]string{}
	for _, r := range source.Resources() {
		kinds[r] = listKind[r.Resource]
	}
	api := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds)
	p := &plane{api: api, tokens: ca.NewTokens(10, time.Now)}
	for _, o := range objects {
		p.apply(t, o)
	}
	var err error
	p.ca, err = ca.Load(ca.Config{Dir: t.TempDir(), TrustDomain: spiffeid.RequireTrustDomainFromString("cluster.local")})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = ln.Addr().String()
	cfg := control.Config{Client: api, CA: p.ca, Tokens: p.tokens, Listeners: []net.Listener{ln}, Log: slog.New(slog.DiscardHandler)}
	change(&cfg)
	p.Control, err = control.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, "control", p.Run)
	select {
	case <-p.Ready():
	case <-time.After(patience):
		t.Fatal("the control plane is not ready")
	}
	return p
}

// run f until the test ends, and wait for it.
func run(t *testing.T, what string, f func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Errorf("%s: %v", what, err)
		}
	})
}

var listKind = map[string]string{
	"namespaces": "NamespaceList", "services": "ServiceList", "pods": "PodList", "secrets": "SecretList", "configmaps": "ConfigMapList",
	"policies": "PolicyList", "meshpolicies": "MeshPolicyList", "peerauthentications": "PeerAuthenticationList", "authorizationpolicies": "AuthorizationPolicyList",
	"destinationrules": "DestinationRuleList", "serviceentries": "ServiceEntryList", "workloadentries": "WorkloadEntryList",
	"endpointslices": "EndpointSliceList", "gateways": "GatewayList", "virtualservices": "VirtualServiceList",
}

func (p *plane) resource(t *testing.T, u *unstructured.Unstructured) dynamic.ResourceInterface {
	t.Helper()
	for _, r := range source.Resources() {
		if listKind[r.Resource] == u.GetKind()+"List" {
			return p.api.Resource(r).Namespace(u.GetNamespace())
		}
	}
	t.Fatalf("no resource for %s", u.GetKind())
	return nil
}

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

func (p *plane) apply(t *testing.T, text string) {
	t.Helper()
	u := parse(t, text)
	if _, err := p.resource(t, u).Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// certificate joins as a workload does: by a token.
func (p *plane) certificate(t *testing.T, node, id string) *csr.Source {
	t.Helper()
	who := spiffeid.RequireFromString(id)
	token, err := p.tokens.Issue(who, node, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	svid, err := csr.NewSource(csr.SourceConfig{
		Target: p.addr, ServerID: spiffeid.RequireFromString(control.Identity("cluster.local")), ID: who, Workload: node,
		Roots: p.ca.Bundle(), Token: token, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, "certificates of "+node, svid.Run)
	select {
	case <-svid.Ready():
	case <-time.After(patience):
		t.Fatalf("no certificate for %s: %+v", node, svid.Status())
	}
	return svid
}

// proxy joins and has its configurations.
func (p *plane) proxy(t *testing.T, node, id string) <-chan *mesh.ProxyConfig {
	t.Helper()
	svid := p.certificate(t, node, id)
	configs := make(chan *mesh.ProxyConfig, 100)
	c, err := client.New(client.Config{Target: p.addr, Node: node, TLS: svid.ControlPlaneTLS, Log: slog.New(slog.DiscardHandler),
		OnConfig: func(cfg *mesh.ProxyConfig) error { configs <- cfg; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	run(t, "xDS of "+node, c.Run)
	return configs
}

// until reads configurations until one is as wanted.
func until(t *testing.T, configs <-chan *mesh.ProxyConfig, what string, ok func(*mesh.ProxyConfig) bool) *mesh.ProxyConfig {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case c := <-configs:
			if ok(c) {
				return c
			}
		case <-deadline:
			t.Fatalf("no configuration in which %s", what)
		}
	}
}

func pod(name, ip string) string {
	return `
apiVersion: v1
kind: Pod
metadata: {name: ` + name + `, namespace: shop, labels: {app: web}, annotations: {sidecar.istio.io/inject: "true"}}
spec: {containers: [{name: app, image: x, ports: [{containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: ` + ip + `}], conditions: [{type: Ready, status: "True"}]}
`
}

const strict = `
apiVersion: authentication.istio.io/v1alpha1
kind: Policy
metadata: {name: default, namespace: shop, generation: 1, uid: p1}
spec: {peers: [{mtls: {}}]}
`

const web = "spiffe://cluster.local/ns/shop/sa/default"

func TestPolicyFromApplyToProxy(t *testing.T) {
	p := start(t, pod("web-1", "10.0.0.1"))
	configs := p.proxy(t, "shop/web-1", web)
	until(t, configs, "nothing sets the mode", func(c *mesh.ProxyConfig) bool { return c.Inbound.Default.Mode == mesh.ModeUnset })

	p.apply(t, strict)
	c := until(t, configs, "STRICT is decided by the Policy", func(c *mesh.ProxyConfig) bool { return c.Inbound.Default.Mode == mesh.ModeStrict })
	if got := c.Inbound.Default.Origin.String(); got != "Policy shop/default (namespace)" {
		t.Errorf("decided by %q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	generation := p.World().Generation
	if err := p.Enforced(ctx, generation); err != nil {
		t.Fatal(err)
	}
	wait(t, "the status says that the generation is enforced", func() bool { return p.Status().Last.Took() > 0 })

	policy := parse(t, strict)
	wait(t, "the Policy's status says Reconciled", func() bool {
		u, err := p.resource(t, policy).Get(ctx, "default", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
		if len(conditions) != 1 {
			return false
		}
		cond := conditions[0].(map[string]any)
		return cond["type"] == "Reconciled" && cond["status"] == "True" && cond["message"] == "Every connected proxy is up to date."
	})
	// The status written just now is no change of the mesh.
	if now := p.World().Generation; now != generation {
		t.Errorf("writing a status made generation %d of %d", now, generation)
	}
}

func TestProxyGetsOnlyItsOwn(t *testing.T) {
	p := start(t, pod("web-1", "10.0.0.1"), strings.ReplaceAll(pod("out-1", "10.0.0.2"), `"true"`, `"false"`))
	own := spiffeid.RequireFromString(web)
	other := spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/thief")
	for _, c := range []struct {
		node string
		peer spiffeid.ID
		want string
	}{
		{"shop/web-1", own, ""},
		{"shop/web-1", other, "spiffe://cluster.local/ns/shop/sa/thief may not have the configuration of shop/web-1, whose identity is " + web},
		{"shop/nobody", own, "there is no workload shop/nobody"},
		{"shop/out-1", own, "workload shop/out-1 is outside the mesh (no sidecar)"},
	} {
		_, err := p.ConfigFor(c.node, c.peer)
		if (err == nil) != (c.want == "") || err != nil && !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("ConfigFor(%s, %s): %v, want %q", c.node, c.peer, err, c.want)
		}
	}
	if got := p.Status().Unmeshed; len(got) != 1 || got[0] != "shop/out-1" {
		t.Errorf("outside the mesh: %v, want shop/out-1", got)
	}
}

func TestBadSettingsLeaveTheRest(t *testing.T) {
	p := start(t, pod("web-1", "10.0.0.1"), strict, `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "enableAutoMtls: maybe"}
`)
	cfg, err := p.ConfigFor("shop/web-1", spiffeid.RequireFromString(web))
	if err != nil || cfg.Inbound.Default.Mode != mesh.ModeStrict {
		t.Errorf("%+v, %v; want STRICT in spite of bad settings", cfg, err)
	}
	if got := p.Status().Problems; len(got) != 1 || !strings.Contains(got[0], "enableAutoMtls") {
		t.Errorf("problems %q, want one that names enableAutoMtls", got)
	}
}

// What a gateway leaves out of a Gateway is said in the object's own status.
func TestGatewayServedInPart(t *testing.T) {
	gateway := `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {hosts: ["*"], port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: nope}}
  - {hosts: ["*"], port: {number: 80, name: http, protocol: HTTP}}
`
	p := start(t, gateway, `
apiVersion: v1
kind: Pod
metadata: {name: gw-1, namespace: istio-system, labels: {istio: ingressgateway}, annotations: {sidecar.istio.io/inject: "false"}}
spec: {containers: [{name: istio-proxy, image: x}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.9}], conditions: [{type: Ready, status: "True"}]}
`)
	const why = "servers[0].tls.credentialName: there is no TLS Secret istio-system/nope; make one with kubectl create secret tls nope -n istio-system"
	if got := p.Status().Problems; len(got) != 1 || got[0] != "Gateway shop/front: "+why {
		t.Errorf("problems %q", got)
	}
	wait(t, "the Gateway's status names the server that is left out", func() bool {
		u, err := p.resource(t, parse(t, gateway)).Get(t.Context(), "front", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
		if len(conditions) != 1 {
			return false
		}
		cond := conditions[0].(map[string]any)
		return cond["status"] == "False" && cond["reason"] == "PartlyUsed" && cond["message"] == why
	})
}

// wait until ok, or fail; for effects that announce themselves nowhere.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
