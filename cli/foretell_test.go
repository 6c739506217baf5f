package cli

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"hasp/apiserver"
	"hasp/ca"
	"hasp/control"
	"hasp/mesh"
)

const foretellPods = `
apiVersion: v1
kind: Pod
metadata: {name: boards-1, labels: {app: boards}}
spec: {containers: [{name: app, image: x, ports: [{containerPort: 8080}]}, {name: istio-proxy, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: legacy, labels: {app: legacy}}
spec: {containers: [{name: app, image: x}]}
---
apiVersion: v1
kind: Service
metadata: {name: boards}
spec: {selector: {app: boards}, ports: [{name: http, port: 8080}]}
`

const foretellPolicy = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
`

const foretellOld = `
apiVersion: authentication.istio.io/v1alpha1
kind: Policy
metadata: {name: default}
spec: {peers: [{mtls: {mode: PERMISSIVE}}]}
`

// A dry run on the server says who would be cut, by what a proxy reported, and
// nothing once nobody would be.
func TestDryRunForetells(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"pods.yaml": foretellPods, "strict.yaml": foretellPolicy,
		"old.yaml": foretellOld, "old-strict.yaml": strings.ReplaceAll(foretellOld, "PERMISSIVE", "STRICT"),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var plane atomic.Pointer[control.Control]
	kubeconfig := startServer(t, func(cfg *apiserver.Config) {
		cfg.Foretell = func(ctx context.Context, u *unstructured.Unstructured, remove bool) []string {
			return plane.Load().Foretell(ctx, u, remove)
		}
	})
	plane.Store(startPlane(t, kubeconfig))
	if got := oc(t, kubeconfig, "apply -f pods.yaml"); !strings.Contains(got, "service/boards created\n") {
		t.Fatal(got)
	}
	identity := spiffeid.RequireFromString("spiffe://cluster.local/ns/microservices-demo/sa/default")
	now := time.Now()
	report := &mesh.Report{Start: now.Add(-time.Hour), At: now, Generation: 1, Whole: true, Edges: []mesh.Edge{{
		EdgeKey: mesh.EdgeKey{Direction: mesh.InboundDir, Peer: "microservices-demo/legacy", Service: "boards.microservices-demo.svc.cluster.local", Port: 8080, Security: mesh.Plaintext, Allowed: true},
		First:   now.Add(-time.Minute), Last: now, Connections: 3,
	}}}
	// A report about a pod that is not known yet would be about nobody.
	for deadline := now.Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if w := plane.Load().World(); w != nil && w.Workload("microservices-demo/boards-1") != nil && w.Workload("microservices-demo/legacy") != nil && len(w.Services) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the pods are not in the mesh in time")
		}
	}
	if err := plane.Load().Report("microservices-demo/boards-1", identity, report); err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct{ line, want string }{
		// An object that has a status by now, which its own type does not.
		{"apply -f old.yaml", "policy.authentication.istio.io/default created\n"},
		{"wait --for=condition=Reconciled --timeout=20s policy/default", "policy.authentication.istio.io/default condition met\n"},
		{"apply --dry-run=server -f old-strict.yaml", `Warning: what-if: client microservices-demo/legacy would be cut from boards.microservices-demo:8080: STRICT of Policy microservices-demo/default (namespace) requires mutual TLS and the client spoke plaintext
policy.authentication.istio.io/default configured (server dry run)
`},
		{"delete -f old.yaml", "policy.authentication.istio.io \"default\" deleted from microservices-demo namespace\n"},
		{"apply --dry-run=server -f strict.yaml", `Warning: what-if: client microservices-demo/legacy would be cut from boards.microservices-demo:8080: STRICT of PeerAuthentication microservices-demo/default (namespace) requires mutual TLS and the client spoke plaintext
peerauthentication.security.istio.io/default created (server dry run)
`},
		{"apply -f strict.yaml", "peerauthentication.security.istio.io/default created\n"},
		{"apply --dry-run=server -f strict.yaml", "peerauthentication.security.istio.io/default unchanged (server dry run)\n"},
		{"delete --dry-run=server -f strict.yaml", "peerauthentication.security.istio.io \"default\" deleted from microservices-demo namespace (server dry run)\n"},
	} {
		if got := oc(t, kubeconfig, c.line); got != c.want {
			t.Errorf("oc %s\ngot  %s\nwant %s", c.line, got, c.want)
		}
	}
}

// startPlane is a control plane over an API server, which nobody connects to.
func startPlane(t *testing.T, kubeconfig string) *control.Control {
	t.Helper()
	rc, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(rc)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.Load(ca.Config{Dir: filepath.Join(t.TempDir(), "ca"), TrustDomain: spiffeid.RequireTrustDomainFromString("cluster.local")})
	if err != nil {
		t.Fatal(err)
	}
	c, err := control.New(control.Config{Client: client, CA: authority, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-c.Ready():
	case err := <-done:
		done <- err
		t.Fatalf("the control plane ended: %v", err)
	}
	return c
}
