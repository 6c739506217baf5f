// Package envtest_test runs the control plane against a real API server and
// etcd, without nodes: what its ServiceAccount may do, who leads, the webhooks
// as the API server calls them, tokens as it reviews them.
package envtest_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authentication "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"hasp/cluster"
	"hasp/deploy"
	"hasp/test/meshtest"
)

// patience with what happens by itself.
const patience = 30 * time.Second

// env is the API server of all tests; nil where there is none.
var env *environment

type environment struct {
	server envtest.Environment
	dir    string // audit log, kubeconfig
	admin  *rest.Config
	client kubernetes.Interface
	dyn    dynamic.Interface
}

func TestMain(m *testing.M) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	os.Exit(run(m))
}

func run(m *testing.M) int {
	bin, err := filepath.Abs(filepath.Join(meshtest.Root(), "bin", "kube", "kubernetes"))
	if err == nil {
		_, err = os.Stat(bin)
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			fmt.Fprintln(os.Stderr, "bin/kube is not there: make kube-cluster")
			return 1
		}
		return m.Run() // each test skips
	}
	dir, err := os.MkdirTemp("", "hasp-envtest-")
	if err == nil {
		defer os.RemoveAll(dir)
		env, err = start(bin, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := env.server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	// Whichever test it was in: the ServiceAccount was refused nothing.
	if err := env.audit(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// auditPolicy notes who asked for what.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: Metadata
  userGroups: ["system:serviceaccounts:istio-system"]
- level: None
`

func start(bin, dir string) (*environment, error) {
	e := &environment{dir: dir}
	assets := filepath.Join(dir, "bin")
	if err := os.Mkdir(assets, 0o700); err != nil {
		return nil, err
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kubectl"} {
		if err := os.Symlink(bin, filepath.Join(assets, name)); err != nil {
			return nil, err
		}
	}
	policy := filepath.Join(dir, "audit.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return nil, err
	}
	e.server.BinaryAssetsDirectory = assets
	e.server.ControlPlane.GetAPIServer().Configure().
		Set("audit-policy-file", policy).Set("audit-log-path", e.auditLog()).Set("audit-log-mode", "blocking")
	var err error
	if e.admin, err = e.server.Start(); err != nil {
		return nil, fmt.Errorf("start the API server: %w", err)
	}
	if err := os.WriteFile(e.kubeconfig(), e.server.KubeConfig, 0o600); err != nil {
		return nil, err
	}
	if e.client, err = kubernetes.NewForConfig(e.admin); err != nil {
		return nil, err
	}
	if e.dyn, err = dynamic.NewForConfig(e.admin); err != nil {
		return nil, err
	}
	return e, e.install()
}

func (e *environment) auditLog() string   { return filepath.Join(e.dir, "audit.log") }
func (e *environment) kubeconfig() string { return filepath.Join(e.dir, "kubeconfig") }

// install what the chart makes, but for what needs nodes. The Service leads to
// 127.0.0.1, where the replicas of the tests are; which one, serve says.
func (e *environment) install() error {
	objects, err := deploy.Render(deploy.Options{})
	if err != nil {
		return err
	}
	var some []*unstructured.Unstructured
	for _, u := range objects {
		switch u.GetKind() {
		case "Deployment", "DaemonSet", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy":
			continue
		case "Service":
			if u.GetName() != cluster.Service {
				continue
			}
			u.Object["spec"] = map[string]any{"type": "ExternalName", "externalName": "localhost"}
		}
		some = append(some, u)
	}
	return (&deploy.Cluster{Client: e.dyn}).Install(context.Background(), some, false)
}

// need skips a test where there is no API server.
func need(t *testing.T) {
	t.Helper()
	if env == nil {
		t.Skip("bin/kube is not there: make kube-cluster")
	}
}

// account is a client's configuration with no more than the control plane's
// ServiceAccount may do.
func account(t *testing.T) *rest.Config {
	t.Helper()
	r, err := env.client.CoreV1().ServiceAccounts(cluster.Namespace).CreateToken(t.Context(), "istiod", &authentication.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := rest.AnonymousClientConfig(env.admin)
	c.BearerToken, c.QPS, c.Burst = r.Status.Token, 200, 400
	return c
}

// kubectl as a person runs it.
func kubectl(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(env.dir, "bin", "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+env.kubeconfig())
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// eventually asks until it is so.
func eventually(t *testing.T, what string, ok func() (bool, error)) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		done, err := ok()
		if done && err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: not within %v (%v)", what, patience, err)
		}
	}
}

// namespace for a test, deleted after it.
func namespace(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	_, err := env.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = env.client.CoreV1().ServiceAccounts(name).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.client.CoreV1().Namespaces().Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}
