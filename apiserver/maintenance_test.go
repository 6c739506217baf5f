package apiserver_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"hasp/apiserver"
)

func serve(t *testing.T, dir string) (*kubernetes.Clientset, *apiserver.Server, func()) {
	t.Helper()
	cfg, err := config(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, stop, err := run(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c, err := kubernetes.NewForConfig(s.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return c, s, func() {
		if err := stop(); err != nil {
			t.Errorf("Run returned %v", err)
		}
	}
}

func names(t *testing.T, c *kubernetes.Clientset) []string {
	t.Helper()
	l, err := c.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, i := range l.Items {
		out = append(out, i.Name)
	}
	return out
}

func create(t *testing.T, c *kubernetes.Clientset, name string) {
	t.Helper()
	if _, err := c.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// A backup of a running server, restored, brings back what was there then, and
// only that.
func TestBackupAndRestore(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "backup.db")
	if err := apiserver.Backup(t.Context(), dir, file); err == nil {
		t.Error("Backup of no server succeeded")
	}
	c, _, stop := serve(t, dir)
	create(t, c, "before")
	if err := apiserver.Backup(t.Context(), dir, file); err != nil {
		t.Fatal(err)
	}
	if err := apiserver.Defrag(t.Context(), dir); err != nil {
		t.Error(err)
	}
	create(t, c, "after")
	stop()
	if i, err := os.Stat(file); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("the backup has mode %v, %v", i.Mode(), err)
	}
	if err := apiserver.Restore(t.Context(), dir, file); err != nil {
		t.Fatal(err)
	}
	c, _, stop = serve(t, dir)
	defer stop()
	if got, want := names(t, c), []string{"before"}; !slices.Equal(got, want) {
		t.Errorf("restored %v, want %v", got, want)
	}
	create(t, c, "anew")
}

// What a restart keeps: objects, keys, and what the user did to the kubeconfig;
// what it changes: the port.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	c, s, stop := serve(t, dir)
	create(t, c, "kept")
	admin, err := os.ReadFile(filepath.Join(dir, "pki", "admin.crt"))
	if err != nil {
		t.Fatal(err)
	}
	kc, err := clientcmd.LoadFromFile(s.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	kc.Contexts["hasp"].Namespace = "istio-system"
	if err := clientcmd.WriteToFile(*kc, s.Kubeconfig()); err != nil {
		t.Fatal(err)
	}
	stop()

	c, s, stop = serve(t, dir)
	defer stop()
	if got := names(t, c); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("objects after a restart: %v", got)
	}
	again, err := clientcmd.LoadFromFile(s.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Contexts["hasp"].Namespace; got != "istio-system" {
		t.Errorf("namespace in the kubeconfig after a restart: %q", got)
	}
	if again.Clusters["hasp"].Server == kc.Clusters["hasp"].Server {
		t.Error("the kubeconfig still has the old port")
	}
	if now, _ := os.ReadFile(filepath.Join(dir, "pki", "admin.crt")); string(now) != string(admin) {
		t.Error("the administrator's certificate changed")
	}
}

func TestFileModes(t *testing.T) {
	dir := filepath.Dir(shared.Kubeconfig())
	for name, want := range map[string]os.FileMode{".": 0o700 | os.ModeDir, "pki": 0o700 | os.ModeDir, "etcd": 0o700 | os.ModeDir,
		"kubeconfig": 0o600, "lock": 0o600, "pki/ca.key": 0o600, "pki/server.key": 0o600, "pki/admin.key": 0o600} {
		i, err := os.Stat(filepath.Join(dir, name))
		if err != nil || i.Mode() != want {
			t.Errorf("%s: mode %v, %v; want %v", name, i.Mode(), err, want)
		}
	}
}
