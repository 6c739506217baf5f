package cni

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a node's directories, and an agent on it with a fake API server.
type host struct {
	Installer
	client *fake.Clientset
	socket string
	stop   func() // the agent; waits for it
}

func newHost(t *testing.T, objects ...*corev1.Pod) *host {
	t.Helper()
	dir := t.TempDir()
	h := &host{socket: filepath.Join(dir, "s")}
	h.Installer = Installer{
		Program: filepath.Join(dir, "program"), BinDir: filepath.Join(dir, "bin"), ConfDir: filepath.Join(dir, "net.d"),
		Chained: true, Settings: Settings{Socket: h.socket},
	}
	for _, err := range []error{
		os.Mkdir(h.BinDir, 0o755), os.Mkdir(h.ConfDir, 0o755), os.WriteFile(h.Program, []byte("the program"), 0o755), os.Chmod(h.Program, 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	h.client = fake.NewClientset(&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "hasp-cni-node"}})
	for _, p := range objects {
		if err := h.client.Tracker().Add(p); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *host) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{
			Client: h.client, Node: "node-1", Socket: h.socket, Install: h.Installer,
			DaemonSet: types.NamespacedName{Namespace: "istio-system", Name: "hasp-cni-node"},
			Log:       slog.New(slog.NewTextHandler(t.Output(), nil)),
		})
	}()
	running := true
	h.stop = func() {
		if !running {
			return
		}
		running = false
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(h.stop)
}

// write puts a network configuration on the node.
func (h *host) write(t *testing.T, name, text string) {
	t.Helper()
	if err := replace(filepath.Join(h.ConfDir, name), 0o644, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

func (h *host) read(name string) string {
	b, _ := os.ReadFile(filepath.Join(h.ConfDir, name))
	return string(b)
}

// eventually waits until what is true, and fails with its last word.
func eventually(t *testing.T, what func() (string, bool)) {
	t.Helper()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	late := time.After(10 * time.Second)
	for {
		said, ok := what()
		if ok {
			return
		}
		select {
		case <-again.C:
		case <-late:
			t.Fatal(said)
		}
	}
}

func (h *host) ready(t *testing.T) {
	t.Helper()
	eventually(t, func() (string, bool) {
		err := Ready(t.Context(), h.socket)
		if err != nil {
			return err.Error(), false
		}
		return "", true
	})
}

const lan = `{"cniVersion":"1.0.0","name":"lan","plugins":[{"type":"bridge"}]}`

// TestAgentKeepsThePluginInstalled: the node's network comes late, its owner
// writes it anew, somebody deletes the program.
func TestAgentKeepsThePluginInstalled(t *testing.T) {
	h := newHost(t)
	h.start(t)
	eventually(t, func() (string, bool) {
		err := Ready(t.Context(), h.socket)
		if err == nil {
			return "ready without a network", false
		}
		return err.Error(), strings.Contains(err.Error(), h.ConfDir+" has no network configuration yet")
	})
	joined := func() (string, bool) {
		text := h.read("10-lan.conflist")
		return text, strings.Contains(text, Name)
	}
	h.write(t, "10-lan.conflist", lan)
	eventually(t, joined)
	h.ready(t)
	h.write(t, "10-lan.conflist", lan)
	eventually(t, joined)
	if err := os.Remove(filepath.Join(h.BinDir, Name)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() (string, bool) {
		info, err := os.Stat(filepath.Join(h.BinDir, Name))
		if err != nil {
			return err.Error(), false
		}
		return info.Mode().String(), info.Mode().Perm() == 0o755
	})
	h.write(t, "00-odd.conf", `{"type":"bridge"}`)
	eventually(t, func() (string, bool) {
		err := Ready(t.Context(), h.socket)
		if err == nil {
			return "ready with a network that it did not join", false
		}
		return err.Error(), strings.Contains(err.Error(), "00-odd.conf, which is one plugin; make it a list (.conflist) that others can join")
	})
}

// TestAgentRestart: a new agent finds what the last one left; pods that start
// between the two wait.
func TestAgentRestart(t *testing.T) {
	h := newHost(t)
	h.write(t, "10-lan.conflist", lan)
	h.start(t)
	h.ready(t)
	h.stop()
	if text := h.read("10-lan.conflist"); !strings.Contains(text, Name) {
		t.Errorf("a restart took the plugin away: %s", text)
	}
	if _, err := os.Stat(filepath.Join(h.BinDir, Name)); err != nil {
		t.Error(err)
	}
	h.start(t)
	h.ready(t)
}

// TestAgentUninstall: with its DaemonSet the agent leaves nothing behind.
func TestAgentUninstall(t *testing.T) {
	h := newHost(t)
	h.write(t, "10-lan.conflist", lan)
	h.write(t, "20-old.conflist", `{"cniVersion":"1.0.0","name":"old","plugins":[{"type":"bridge"},`+ours+`]}`)
	h.write(t, "30-broken.conflist", `{`)
	h.start(t)
	h.ready(t)
	if err := h.client.AppsV1().DaemonSets("istio-system").Delete(t.Context(), "hasp-cni-node", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	h.stop()
	for _, name := range []string{"10-lan.conflist", "20-old.conflist"} {
		if text := h.read(name); text == "" || strings.Contains(text, Name) {
			t.Errorf("%s: %s", name, text)
		}
	}
	if _, err := os.Stat(filepath.Join(h.BinDir, Name)); !os.IsNotExist(err) {
		t.Errorf("program: %v", err)
	}
}

// TestAgentEnds: what it makes of the API server's answer.
func TestAgentEnds(t *testing.T) {
	own := schema.GroupResource{Group: "apps", Resource: "daemonsets"}
	now := metav1.Now()
	for _, tc := range []struct {
		name   string
		answer *appsv1.DaemonSet
		err    error
		stays  bool
	}{
		{"a restart", &appsv1.DaemonSet{}, nil, true},
		{"foreground deletion", &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}}, nil, false},
		{"deleted", nil, apierrors.NewNotFound(own, "hasp-cni-node"), false},
		{"its role was faster", nil, apierrors.NewForbidden(own, "hasp-cni-node", errors.New("no")), false},
		{"its account was faster", nil, apierrors.NewUnauthorized("no"), false},
		{"nobody answers", nil, errors.New("connection refused"), true},
		{"an API server in trouble", nil, apierrors.NewInternalError(errors.New("etcd")), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			h.write(t, "10-lan.conflist", lan)
			h.client.PrependReactor("get", "daemonsets", func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, tc.answer, tc.err
			})
			h.start(t)
			h.ready(t)
			h.stop()
			if text := h.read("10-lan.conflist"); strings.Contains(text, Name) != tc.stays {
				t.Errorf("stays %v: %s", tc.stays, text)
			}
		})
	}
}

func TestInstallStandalone(t *testing.T) {
	h := newHost(t)
	h.Chained = false
	h.write(t, "10-lan.conflist", lan)
	for _, want := range []bool{true, false} {
		if changed, err := h.Install(); err != nil || changed != want {
			t.Errorf("changed %v, %v", changed, err)
		}
	}
	if text := h.read("10-lan.conflist"); text != lan {
		t.Errorf("the node's network was changed: %s", text)
	}
	if text := h.read("hasp-cni.conf"); !strings.Contains(text, `"type": "hasp-cni"`) {
		t.Errorf("own network: %s", text)
	}
	if err := h.Remove(); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(h.ConfDir); err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v", entries, err)
	}
}

// TestAgentFindsPods: those of its node, and the one that the runtime means.
func TestAgentFindsPods(t *testing.T) {
	pod := func(name, uid, node string, annotations map[string]string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(uid), Annotations: annotations},
			Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "istio-proxy"}}},
		}
	}
	injected := map[string]string{"sidecar.istio.io/status": "{}"}
	h := newHost(t, pod("api", "u1", "node-1", injected), pod("far", "u2", "node-2", injected),
		pod("static", "u3", "node-1", map[string]string{mirrorKey: "from-a-file"}))
	h.write(t, "10-lan.conflist", lan)
	h.start(t)
	h.ready(t)
	for _, tc := range []struct {
		pod  Pod
		want string
	}{
		{Pod{"shop", "api", "u1"}, "captured"},
		{Pod{"shop", "api", ""}, "captured"},
		{Pod{"shop", "api", "u0"}, "the agent says: pod shop/api has the UID u1, and u0 was asked about"},
		{Pod{"shop", "far", ""}, `the agent says: pod shop/far is on node "node-2", and this is node-1`},
		{Pod{"shop", "none", "u"}, "the agent says: there is no pod shop/none"},
		{Pod{"shop", "static", "from-a-file"}, "the pod has no annotation sidecar.istio.io/status, so no sidecar was injected"},
	} {
		a, err := Ask(t.Context(), h.socket, tc.pod)
		got := a.Why
		switch {
		case err != nil:
			got = err.Error()
		case a.Capture != nil:
			got = "captured"
		}
		if got != tc.want {
			t.Errorf("%v: %s, want %s", tc.pod, got, tc.want)
		}
	}
	h.stop()
	var asked []string
	for _, a := range h.client.Actions() {
		what := a.GetVerb() + " " + a.GetResource().Resource
		switch a := a.(type) {
		case clienttesting.ListAction:
			what += " " + a.GetListRestrictions().Fields.String()
		case clienttesting.WatchAction:
			what += " " + a.GetWatchRestrictions().Fields.String()
		}
		if !slices.Contains(asked, what) {
			asked = append(asked, what)
		}
	}
	slices.Sort(asked)
	// Nothing but what the ClusterRole grants, and only its own node's pods.
	want := []string{
		"get daemonsets", "get pods", "list pods spec.nodeName=node-1", "watch pods spec.nodeName=node-1",
	}
	if !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

func TestParseDaemonSet(t *testing.T) {
	for in, ok := range map[string]bool{"istio-system/hasp-cni-node": true, "hasp-cni-node": false, "/a": false, "a/b/c": false} {
		if _, err := ParseDaemonSet(in); (err == nil) != ok {
			t.Errorf("%s: %v", in, err)
		}
	}
}
