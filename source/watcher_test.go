package source_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"hasp/source"
)

// patience is for what happens at once unless something is broken, on a busy
// machine under the race detector too.
const patience = time.Minute

// fakeCluster is a fake API server that serves every kind hasp reads.
func fakeCluster(t *testing.T, objects ...string) *fake.FakeDynamicClient {
	t.Helper()
	kinds := map[schema.GroupVersionResource]string{}
	for _, r := range source.Resources() {
		kinds[r] = "List"
	}
	c := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds)
	for _, text := range objects {
		write(t, c, text, false)
	}
	return c
}

var resourceOf = map[string]string{"Pod": "pods", "Secret": "secrets", "ConfigMap": "configmaps", "Namespace": "namespaces", "PeerAuthentication": "peerauthentications", "AuthorizationPolicy": "authorizationpolicies"}

// write an object, new or again.
func write(t *testing.T, c *fake.FakeDynamicClient, text string, again bool) {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	all := source.Resources()
	r := all[slices.IndexFunc(all, func(r schema.GroupVersionResource) bool { return r.Resource == resourceOf[u.GetKind()] })]
	var err error
	if again {
		_, err = c.Resource(r).Namespace(u.GetNamespace()).Update(t.Context(), u, metav1.UpdateOptions{})
	} else {
		_, err = c.Resource(r).Namespace(u.GetNamespace()).Create(t.Context(), u, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// watching is a Watcher that has read everything, and how often it called.
func watching(t *testing.T, c *fake.FakeDynamicClient, scope source.Scope, log *slog.Logger) (watched, func() int64) {
	t.Helper()
	var changes atomic.Int64
	w, err := source.NewWatcher(c, scope, log, func() { changes.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	synced, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := w.Synced(synced); err != nil {
		t.Fatal(err)
	}
	return watched{w, source.NewBuilder("")}, changes.Load
}

// watched is a Watcher with what came of it.
type watched struct {
	*source.Watcher
	builder *source.Builder
}

// Objects now.
func (w watched) Objects() *source.Objects {
	w.Feed(w.builder)
	return w.builder.Build().Objects()
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

// refuse is how an API server answers lists of a resource outside of the
// namespace that is allowed.
func refuse(c *fake.FakeDynamicClient, resource, allowed string, err error) {
	c.PrependReactor("list", resource, func(a clienttesting.Action) (bool, runtime.Object, error) {
		return allowed == "" || a.GetNamespace() != allowed, nil, err
	})
}

func forbidden(resource string) error {
	return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "", errors.New("not yours"))
}

const heartbeat = `
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, uid: u, resourceVersion: "%s", annotations: {note: "%s"}}
spec:
  volumes: [{name: data, emptyDir: {}}]
  containers: [{name: app, image: x, env: [{name: A, value: b}], ports: [{name: http, containerPort: 80}]}]
status: {phase: Running, podIPs: [{ip: 10.0.0.1}], conditions: [{type: Ready, status: "%s", lastProbeTime: "2026-01-01T00:00:0%sZ"}, {type: PodScheduled, status: "True"}]}
`

func beat(n, ready string) string {
	return strings.NewReplacer(`resourceVersion: "%s"`, `resourceVersion: "`+n+`"`, `note: "%s"`, `note: "`+n+`"`,
		`status: "%s"`, `status: "`+ready+`"`, `00:0%sZ`, `00:0`+n+`Z`).Replace(heartbeat)
}

// TestHeartbeat: an update of what hasp does not read is no change, and nothing
// of that is kept.
func TestHeartbeat(t *testing.T) {
	c := fakeCluster(t, beat("1", "True"))
	w, changes := watching(t, c, source.Scope{}, slog.New(slog.DiscardHandler))
	p := w.Objects().Pods[0]
	if len(p.Spec.Volumes)+len(p.Spec.Containers[0].Env)+len(p.Annotations) > 0 || len(p.Status.Conditions) != 1 {
		t.Errorf("what nobody reads is kept: %+v", p)
	}
	if len(p.Spec.Containers[0].Ports) != 1 {
		t.Errorf("what is read is not kept: %+v", p)
	}
	before := changes()
	write(t, c, beat("2", "True"), true)
	write(t, c, beat("3", "False"), true)
	until(t, "the third update", func() bool { return w.Objects().Pods[0].ResourceVersion == "3" && changes() > before })
	if got := changes() - before; got != 1 {
		t.Errorf("%d changes of three updates, want that of readiness alone", got)
	}
}

// TestScope: no Secret and no ConfigMap is asked for elsewhere, and no key is
// kept that no gateway serves with.
func TestScope(t *testing.T) {
	c := fakeCluster(t, `
apiVersion: v1
kind: Secret
metadata: {name: page, namespace: edge}
data: {tls.crt: Yw==, tls.key: aw==, other: eA==}
`, `
apiVersion: v1
kind: Secret
metadata: {name: istio-ca-secret, namespace: istio-system}
data: {ca-key.pem: aw==}
`, `
apiVersion: v1
kind: Secret
metadata: {name: private, namespace: shop}
data: {tls.crt: Yw==, tls.key: aw==}
`)
	c.PrependReactor("list", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		r, ns := a.GetResource().Resource, a.GetNamespace()
		bad := r == "secrets" && ns != "istio-system" && ns != "edge" || r == "configmaps" && ns != "istio-system"
		return bad, nil, forbidden(r)
	})
	w, _ := watching(t, c, source.Scope{Secrets: []string{"istio-system", "edge"}}, slog.New(slog.DiscardHandler))
	got := map[string]int{}
	for _, s := range w.Objects().Secrets {
		got[s.Namespace+"/"+s.Name] = len(s.Data)
	}
	if diff := cmp.Diff(map[string]int{"edge/page": 2, "istio-system/istio-ca-secret": 0}, got); diff != "" {
		t.Errorf("secrets and their fields (-want +got)\n%s", diff)
	}
}

// TestKindsThatAreNotThere: a cluster without a kind is read all the same, the
// log says so once, and the kind is read when it comes.
func TestKindsThatAreNotThere(t *testing.T) {
	c := fakeCluster(t)
	var there atomic.Bool
	c.PrependReactor("list", "peerauthentications", func(a clienttesting.Action) (bool, runtime.Object, error) {
		return !there.Load(), nil, apierrors.NewNotFound(a.GetResource().GroupResource(), "")
	})
	var log lockedBuffer
	w, _ := watching(t, c, source.Scope{}, slog.New(slog.NewTextHandler(&log, nil)))
	const want = `msg="not read" resource=peerauthentications.security.istio.io why="the API server does not serve this kind; it is read as soon as it does"`
	if got := log.String(); strings.Count(got, want) != 1 {
		t.Errorf("log:\n%s\nwant once: %s", got, want)
	}
	there.Store(true)
	write(t, c, "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default, namespace: shop}, spec: {mtls: {mode: STRICT}}}", false)
	until(t, "the kind is read", func() bool { return len(w.Objects().PeerAuthentications) == 1 })
}

// TestForbiddenToList: a command does without Secrets and others' ConfigMaps, and
// not without policy.
func TestForbiddenToList(t *testing.T) {
	c := fakeCluster(t, beat("1", "True"))
	refuse(c, "secrets", "", forbidden("secrets"))
	refuse(c, "configmaps", "istio-system", forbidden("configmaps"))
	w, _, err := source.FromCluster(t.Context(), c)
	if err != nil || w.Workload("shop/web-1") == nil {
		t.Errorf("without Secrets: %v", err)
	}
	refuse(c, "peerauthentications", "", forbidden("peerauthentications"))
	_, _, err = source.FromCluster(t.Context(), c)
	if want := `list peerauthentications: peerauthentications is forbidden: not yours`; err == nil || err.Error() != want {
		t.Errorf("without policy: %v, want %s", err, want)
	}
}

// TestUndecodableObject: what a command does not understand hides nothing else,
// and is told of.
func TestUndecodableObject(t *testing.T) {
	c := fakeCluster(t, beat("1", "True"),
		"{apiVersion: v1, kind: Pod, metadata: {name: odd, namespace: shop}, spec: {containers: [{name: main, ports: [{containerPort: many}]}]}}")
	w, problems, err := source.FromCluster(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if w.Workload("shop/web-1") == nil || w.Workload("shop/odd") != nil {
		t.Errorf("workloads %v", w.Workloads)
	}
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	want := []string{"Pod shop/odd: left out, it does not decode: json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// lockedBuffer is a log that goroutines write and a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A policy that is only tried out must not be enforced for want of the
// annotation that says so.
func TestDryRunIsKept(t *testing.T) {
	c := fakeCluster(t, `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: tried, namespace: shop, annotations: {istio.io/dry-run: "true", other: x}}, spec: {}}`)
	w, _ := watching(t, c, source.Scope{}, slog.New(slog.DiscardHandler))
	got := w.Objects().AuthorizationPolicies[0].Annotations
	if diff := cmp.Diff(map[string]string{"istio.io/dry-run": "true"}, got); diff != "" {
		t.Error(diff)
	}
}
