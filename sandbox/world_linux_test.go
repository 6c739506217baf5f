package sandbox

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// world is a sandbox under test. Its API server is client-go's fake, which
// keeps objects and watches and does nothing else a server does; a test with a
// real one is in package cli. Its network, processes and files are real.
type world struct {
	t      *testing.T
	s      *Sandbox
	client *fake.Clientset
	cfg    Config
	stop   func()
}

// only one sandbox fits into one network namespace.
var onlyOne sync.Mutex

func newWorld(t *testing.T, change func(*Config)) *world {
	t.Helper()
	onlyOne.Lock()
	t.Cleanup(onlyOne.Unlock)
	var uids atomic.Int64
	client := fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
	client.PrependReactor("create", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		o := a.(clienttesting.CreateAction).GetObject().(metav1.Object)
		o.SetUID(types.UID(fmt.Sprintf("uid-%d", uids.Add(1))))
		o.SetCreationTimestamp(metav1.Now())
		return false, nil, nil
	})
	client.PrependReactor("update", "*", statusOnly(client.Tracker()))
	w := &world{t: t, client: client}
	w.cfg = Config{
		Client:   client,
		StateDir: filepath.Join(t.TempDir(), "state"),
		Images:   Images{"local": {}, "appropriate/curl": {Program: []string{"curl"}}},
		Log:      slog.New(slog.NewTextHandler(testLog{t}, nil)),
	}
	if change != nil {
		change(&w.cfg)
	}
	w.start()
	return w
}

// statusOnly makes an update of a status leave the rest of the object alone, as
// a server does; the fake takes all of it, however old.
func statusOnly(tracker clienttesting.ObjectTracker) clienttesting.ReactionFunc {
	return func(a clienttesting.Action) (bool, runtime.Object, error) {
		if a.GetSubresource() != "status" {
			return false, nil, nil
		}
		sent := a.(clienttesting.UpdateAction).GetObject()
		stored, err := tracker.Get(a.GetResource(), a.GetNamespace(), sent.(metav1.Object).GetName())
		if err != nil {
			return true, nil, err
		}
		stored = stored.DeepCopyObject()
		switch o := sent.(type) {
		case *corev1.Pod:
			stored.(*corev1.Pod).Status = o.Status
		case *appsv1.Deployment:
			stored.(*appsv1.Deployment).Status = o.Status
		}
		return true, stored, tracker.Update(a.GetResource(), stored, a.GetNamespace())
	}
}

// start, or start again after stop, on the same state and objects.
func (w *world) start() {
	w.t.Helper()
	s, err := New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.s = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
		// The namespace stays: it is the test's. Make room for the next fabric.
		if err := removeBridge(); err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(w.stop)
}

// testLog shows the sandbox's log when a test fails.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (w *world) create(p *corev1.Pod) {
	w.t.Helper()
	if _, err := w.client.CoreV1().Pods(p.Namespace).Create(w.t.Context(), p, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// until waits for a pod to be as wanted.
func (w *world) until(name, what string, wanted func(*corev1.Pod) bool) *corev1.Pod {
	w.t.Helper()
	var p *corev1.Pod
	w.eventually(fmt.Sprintf("pod %s: %s", name, what), func() bool {
		var err error
		p, err = w.client.CoreV1().Pods(ns).Get(w.t.Context(), name, metav1.GetOptions{})
		return err == nil && wanted(p)
	}, func() string { return fmt.Sprintf("%+v", p) })
	return p
}

func (w *world) eventually(what string, ok func() bool, state func() string) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			w.t.Fatalf("not in a minute: %s\n%s", what, state())
		}
		time.Sleep(5 * time.Millisecond) // polling the fake, which has no wait
	}
}

func (w *world) untilReady(name string) *corev1.Pod {
	w.t.Helper()
	return w.until(name, "ready", isReady)
}

func (w *world) untilFinished(name string) *corev1.Pod {
	w.t.Helper()
	return w.until(name, "finished", func(p *corev1.Pod) bool { return finished(p.Status.Phase) })
}

// logs of a pod's only container.
func (w *world) logs(name string) string { return w.logsOf(name, "") }

func (w *world) logsOf(name, container string) string {
	w.t.Helper()
	r, err := w.s.Logs(w.t.Context(), ns, name, &corev1.PodLogOptions{Container: container})
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

// output runs a command in a pod and gives what it printed.
func (w *world) output(name string, command ...string) string {
	w.t.Helper()
	w.create(simplePod(name, command...))
	w.untilFinished(name)
	return w.logs(name)
}

// network of a pod.
func (w *world) network(name string) *network {
	w.t.Helper()
	obj, err := w.client.CoreV1().Pods(ns).Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.s.pods.mu.Lock()
	p := w.s.pods.byUID[obj.UID]
	w.s.pods.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.net
}

func need(t *testing.T, program string) string {
	t.Helper()
	path, err := lookPath(program, DefaultPath)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}
