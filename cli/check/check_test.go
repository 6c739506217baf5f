package check

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	fakediscovery "k8s.io/client-go/discovery/fake"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"hasp/cluster"
	"hasp/deploy"
)

// says is one question to a cluster of these objects, and the answer.
type says struct {
	name    string
	objects []runtime.Object
	ask     func(*checker) func(context.Context) Result
	want    string // STATUS DETAIL
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func TestQuestions(t *testing.T) {
	for _, c := range []says{
		{"nodes", []runtime.Object{node("a", "v1.37.2", "6.1.0"), node("b", "v1.30.0", "5.14.0-503.el9")}, nodes, "ok 2 linux/amd64"},
		{"an old kubelet", []runtime.Object{node("a", "v1.37.2", "6.1.0"), node("b", "v1.28.9", "6.1.0")}, nodes,
			"failed b has kubelet v1.28.9, and native sidecars came with 1.29"},
		{"an old kernel", []runtime.Object{node("a", "v1.30.0", "4.18.0-553.el8")}, nodes,
			"warning a has Linux 4.18.0-553.el8, and nf_tables does NAT for IPv4 and IPv6 since 5.2"},

		{"replicas", []runtime.Object{istiod(2, 2)}, replicas, "ok 2 of 2"},
		{"a replica is missing", []runtime.Object{istiod(2, 1)}, replicas, "warning 1 of 2"},
		{"none is ready", []runtime.Object{istiod(2, 0)}, replicas, "failed 0 of 2"},
		{"none is wanted", []runtime.Object{istiod(0, 0)}, replicas, "failed 0 are wanted"},
		{"one is wanted", []runtime.Object{istiod(1, 1)}, replicas, "warning 1 of 1: while it restarts nothing changes and no pod of the mesh starts"},

		{"a leader", []runtime.Object{lease("istiod-1", time.Second)}, leader, "ok istiod-1"},
		{"nobody leads", []runtime.Object{lease("", time.Second)}, leader, "failed nobody holds lease hasp-leader"},
		{"a leader that is gone", []runtime.Object{lease("istiod-1", time.Hour)}, leader, "failed istiod-1 renewed lease hasp-leader 1h"},
		{"no lease", nil, leader, `failed leases.coordination.k8s.io "hasp-leader" not found`},

		{"the authority", []runtime.Object{secret("istio-ca-secret", time.Hour)}, authority, "ok Secret istio-ca-secret, until "},
		{"the given authority wins", []runtime.Object{secret("cacerts", 100*24*time.Hour), secret("istio-ca-secret", -time.Hour)}, authority, "ok Secret cacerts, until "},
		{"it ends soon", []runtime.Object{secret("cacerts", time.Hour)}, authority, "warning Secret cacerts, until "},
		{"it has ended", []runtime.Object{secret("cacerts", -time.Hour)}, authority, "failed Secret cacerts, until "},
		{"its key is another's", []runtime.Object{mixed(secret("cacerts", time.Hour), secret("cacerts", time.Hour))}, authority,
			"failed Secret cacerts: its key does not fit: tls: private key does not match public key"},
		{"it is none", []runtime.Object{&corev1.Secret{ObjectMeta: meta("istio-system", "cacerts")}}, authority, "failed Secret cacerts: no certificate is in it"},
		{"another one signs", nil, authority, " "},

		{"roots", []runtime.Object{namespace("istio-system"), namespace("shop"), roots("istio-system", "R"), roots("shop", "R")}, everywhere, "ok 2 namespaces"},
		{"no roots in one", []runtime.Object{namespace("istio-system"), namespace("shop"), namespace("bank"), roots("istio-system", "R"), roots("shop", "S")}, everywhere,
			"failed not, or other ones: bank, shop"},
		{"no roots at all", []runtime.Object{namespace("istio-system")}, everywhere, "failed ConfigMap istio-ca-root-cert is not in istio-system"},

		{"trusted", []runtime.Object{roots("istio-system", "R\n"), validating("R")}, trust, "ok "},
		{"trusted by its own root", []runtime.Object{roots("istio-system", "R"), validating("W"), &corev1.Secret{
			ObjectMeta: meta("istio-system", cluster.WebhookSecret), Data: map[string][]byte{"root-cert.pem": []byte("W")}}}, trust, "ok "},
		{"not trusted", []runtime.Object{roots("istio-system", "R"), validating("")}, trust, "failed another caBundle is in validation.istio.io"},
		{"no webhook", []runtime.Object{roots("istio-system", "R")}, trust,
			`failed validatingwebhookconfigurations.admissionregistration.k8s.io "istio-validator-istio-system" not found`},

		{"sidecars", []runtime.Object{labelled("shop"), pod("shop", "a", true), pod("istio-system", "b", false)}, sidecars, "ok 1 pods"},
		{"a pod from before", []runtime.Object{labelled("shop"), pod("shop", "a", true), pod("shop", "old", false)}, sidecars, "warning not shop/old"},
		{"ready", []runtime.Object{pod("shop", "a", true)}, proxiesReady, "ok 1 proxies"},
		{"not ready", []runtime.Object{waiting(pod("shop", "a", true))}, proxiesReady, "warning not shop/a"},

		{"no CNI", nil, cni, " "},
		{"CNI", []runtime.Object{&appsv1.DaemonSet{ObjectMeta: meta("istio-system", "hasp-cni-node"), Status: appsv1.DaemonSetStatus{NumberReady: 3, DesiredNumberScheduled: 3}}}, cni, "ok 3 of 3"},
		{"a node without", []runtime.Object{&appsv1.DaemonSet{ObjectMeta: meta("istio-system", "hasp-cni-node"), Status: appsv1.DaemonSetStatus{NumberReady: 2, DesiredNumberScheduled: 3}}}, cni, "failed 2 of 3"},
	} {
		r := c.ask(&checker{Config: Config{Client: fake.NewClientset(c.objects...)}})(t.Context())
		got := string(r.Status) + " " + r.Detail
		clock := strings.HasSuffix(c.want, "until ") || strings.HasSuffix(c.want, " 1h") // says the rest
		if got != c.want && (!clock || !strings.HasPrefix(got, c.want)) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if r.Status == Failed && r.Hint == "" && !strings.HasSuffix(c.want, "not found") {
			t.Errorf("%s: no hint", c.name)
		}
	}
}

func nodes(c *checker) func(context.Context) Result        { return c.askNodes }
func replicas(c *checker) func(context.Context) Result     { return c.askReplicas }
func leader(c *checker) func(context.Context) Result       { return c.askLeader }
func authority(c *checker) func(context.Context) Result    { return c.askAuthority }
func everywhere(c *checker) func(context.Context) Result   { return c.askRoots }
func trust(c *checker) func(context.Context) Result        { return c.askTrust }
func sidecars(c *checker) func(context.Context) Result     { return c.askSidecars }
func proxiesReady(c *checker) func(context.Context) Result { return c.askReady }
func cni(c *checker) func(context.Context) Result          { return c.askCNI }

func node(name, kubelet, kernel string) *corev1.Node {
	return &corev1.Node{ObjectMeta: meta("", name), Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{
		OperatingSystem: "linux", Architecture: "amd64", KubeletVersion: kubelet, KernelVersion: kernel}}}
}

func istiod(want, ready int32) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: meta("istio-system", "istiod"), Spec: appsv1.DeploymentSpec{Replicas: &want}, Status: appsv1.DeploymentStatus{ReadyReplicas: ready}}
}

func lease(holder string, age time.Duration) *coordinationv1.Lease {
	renewed, seconds := metav1.NewMicroTime(time.Now().Add(-age)), int32(15)
	return &coordinationv1.Lease{ObjectMeta: meta("istio-system", cluster.Lease),
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: &renewed, LeaseDurationSeconds: &seconds}}
}

func secret(name string, left time.Duration) *corev1.Secret {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(left)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		panic(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return &corev1.Secret{ObjectMeta: meta("istio-system", name), Data: map[string][]byte{
		"ca-cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"ca-key.pem":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}}
}

// mixed has the key of another.
func mixed(a, b *corev1.Secret) *corev1.Secret {
	a.Data["ca-key.pem"] = b.Data["ca-key.pem"]
	return a
}

func namespace(name string) *corev1.Namespace { return &corev1.Namespace{ObjectMeta: meta("", name)} }

func labelled(name string) *corev1.Namespace {
	ns := namespace(name)
	ns.Labels = map[string]string{"istio-injection": "enabled"}
	return ns
}

func roots(ns, text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: meta(ns, cluster.RootsConfigMap), Data: map[string]string{cluster.RootsKey: text}}
}

func validating(bundle string) *admissionregistrationv1.ValidatingWebhookConfiguration {
	return &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: meta("", cluster.ValidatingWebhooks),
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{Name: "validation.istio.io", ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: []byte(bundle)}}}}
}

func pod(ns, name string, sidecar bool) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: meta(ns, name), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}}}
	if sidecar {
		p.Spec.InitContainers = []corev1.Container{{Name: "istio-proxy", Image: "hasp-proxy:1"}}
		p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "istio-proxy", Ready: true}}
	}
	return p
}

func waiting(p *corev1.Pod) *corev1.Pod {
	p.Status.InitContainerStatuses[0].Ready = false
	return p
}

// TestProxies: what the replicas say of the pods that have a proxy.
func TestProxies(t *testing.T) {
	replica := pod("istio-system", "istiod-1", false)
	replica.Labels = map[string]string{"app": "istiod"}
	replica.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	for _, c := range []struct {
		name   string
		answer string // of the control plane, JSON
		want   string
	}{
		{"connected", `{"control": {"proxies": [{"node": "shop/a", "connected": true, "ackedGeneration": 3}]}}`, "ok 1 proxies"},
		{"unknown", `{"control": {"proxies": []}}`, "failed shop/a is not connected"},
		{"gone", `{"control": {"proxies": [{"node": "shop/a"}]}}`, "failed shop/a is not connected"},
		{"refused", `{"control": {"proxies": [{"node": "shop/a", "connected": true, "nack": {"generation": 4, "message": "no"}}]}}`, "failed shop/a refused its configuration: no"},
		{"silent", ``, "failed nobody answers"},
	} {
		k := &checker{Config: Config{Client: fake.NewClientset(replica, pod("shop", "a", true)), ControlPlane: answering(c.answer)}}
		r := k.askProxies(t.Context())
		if got := string(r.Status) + " " + r.Detail; got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestWaitingReplica: one that is not ready says itself why.
func TestWaitingReplica(t *testing.T) {
	replica := pod("istio-system", "istiod-1", false)
	replica.Labels, replica.Status.Phase = map[string]string{"app": "istiod"}, corev1.PodRunning
	k := &checker{Config: Config{Client: fake.NewClientset(replica), ControlPlane: answering("")}}
	if r := k.askStatus(t.Context()); r.Status != Failed || r.Detail != "nobody answers" || r.Hint != "kubectl -n istio-system logs istiod-1" {
		t.Errorf("%+v", r)
	}
}

func answering(text string) func(context.Context, string) (cluster.Status, error) {
	return func(context.Context, string) (s cluster.Status, err error) {
		if text == "" {
			return s, errors.New("nobody answers")
		}
		return s, json.Unmarshal([]byte(text), &s)
	}
}

func TestVersion(t *testing.T) {
	for v, want := range map[string]string{
		"v1.37.2": "ok it is v1.37.2", "v1.29.0-eks-1": "ok it is v1.29.0-eks-1", "v1.28.15": "failed it is v1.28.15",
	} {
		client := fake.NewClientset()
		client.Discovery().(*fakediscovery.FakeDiscovery).FakedServerVersion = &version.Info{GitVersion: v}
		r := (&checker{Config: Config{Client: client}}).askVersion(t.Context())
		if got := string(r.Status) + " " + r.Detail; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	k := &checker{Config: Config{Version: "0.2.0"}, installed: deploy.Installed{Version: "0.1.0"}}
	if r := k.askSkew(t.Context()); r.Status != Warning || r.Detail != "it is 0.1.0, this program 0.2.0" {
		t.Errorf("%+v", r)
	}
}

// TestDefinitionsOfOthers: what Istio left is told of, what hasp left is not.
func TestDefinitionsOfOthers(t *testing.T) {
	for by, want := range map[string]string{"": "ok ", "hasp": "ok ", "istio": "warning gateways.networking.istio.io"} {
		crd := &unstructured.Unstructured{}
		crd.SetAPIVersion("apiextensions.k8s.io/v1")
		crd.SetKind("CustomResourceDefinition")
		crd.SetName("gateways.networking.istio.io")
		client := dynamicfake.NewSimpleDynamicClient(runtime.NewScheme())
		if by != "" {
			there := crd.DeepCopy()
			there.SetLabels(map[string]string{deploy.PartOfLabel: by})
			client = dynamicfake.NewSimpleDynamicClient(runtime.NewScheme(), there)
		}
		r := (&checker{Config: Config{Dynamic: client, Objects: []*unstructured.Unstructured{crd}}}).askDefinitionsOfOthers(t.Context())
		if got := string(r.Status) + " " + r.Detail; got != want {
			t.Errorf("%q: %q, want %q", by, got, want)
		}
	}
}

// TestPods: a namespace at any level admits the pods that are tried, but for the
// one capability that is asked about.
func TestPods(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	judge := func(p *corev1.Pod) string {
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &p.ObjectMeta, &p.Spec))
		return result.ForbiddenDetail()
	}
	if got := judge(modestPod("true")); got != "" {
		t.Error(got)
	}
	const want = `unrestricted capabilities (container "istio-init" must not include "NET_ADMIN" in securityContext.capabilities.add)`
	if got := judge(capturingPod()); got != want {
		t.Error(got)
	}
}

func TestPrint(t *testing.T) {
	results := []Result{
		{Section: "cluster", Name: "it answers", Status: OK, Detail: "v1"},
		{Section: "cluster", Name: "it is quick", Status: Warning, Detail: "it is slow", Hint: "wait"},
		{Section: "control plane", Name: "it runs", Status: Failed, Detail: "it does not", Hint: "start <it>"},
		{Section: "control plane", Name: "it is loved", Status: OK},
	}
	var out bytes.Buffer
	if err := Print(&out, results, false); err != nil {
		t.Fatal(err)
	}
	const want = `cluster
-------
√ it answers: v1
‼ it is quick
    it is slow
    hint: wait

control plane
-------------
× it runs
    it does not
    hint: start <it>
√ it is loved

2 well, 1 to look at, 1 failed
`
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
	out.Reset()
	if err := Print(&out, results[:1], true); err != nil || !strings.Contains(out.String(), "\x1b[32m√\x1b[0m it answers") {
		t.Errorf("%v %q", err, out.String())
	}
	out.Reset()
	if err := PrintJSON(&out, results); err != nil || !strings.HasPrefix(out.String(), "{\n  \"ok\": false,\n  \"checks\": [\n    {\n      \"section\": \"cluster\",") || !strings.Contains(out.String(), "start <it>") {
		t.Errorf("%v %s", err, out.String())
	}
	if !Well(results[:2]) || Well(results) {
		t.Error("a warning is no failure, and a failure is one")
	}
}

// TestNobodyToAsk: a cluster that does not answer, or not to this user, is a
// question that failed, so that all of hasp check's output is there.
func TestNobodyToAsk(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want []string // of the results that are not well: NAME: DETAIL
	}{
		{"away", errors.New("dial tcp: connection refused"), []string{"the API server answers: look for an installation: dial tcp: connection refused"}},
		{"forbidden", apierrors.NewForbidden(schema.GroupResource{Resource: "deployments"}, "istiod", errors.New("no")), []string{
			`you may see what is installed: look for an installation: deployments "istiod" is forbidden: no`,
			"you may create what hasp installs: you may not create namespaces, delete namespaces, get namespaces, list namespaces, patch namespaces",
		}},
	} {
		dyn := dynamicfake.NewSimpleDynamicClient(runtime.NewScheme())
		dyn.PrependReactor("get", "*", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, c.err })
		client := fake.NewClientset()
		client.PrependReactor("create", "selfsubjectaccessreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, &authorizationv1.SelfSubjectAccessReview{}, nil
		})
		client.Discovery().(*fakediscovery.FakeDiscovery).FakedServerVersion = &version.Info{GitVersion: "v1.37.2"}
		results, err := Run(t.Context(), Config{Client: client, Dynamic: dyn, Objects: []*unstructured.Unstructured{{Object: map[string]any{
			"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "istio-system"}}}}})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		var got []string
		for _, r := range results {
			if r.Status != OK {
				got = append(got, r.Name+": "+r.Detail)
			}
			if r.Status == Failed && r.Hint == "" {
				t.Errorf("%s: no hint for %s", c.name, r.Name)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", c.name, got, c.want)
		}
	}
}
