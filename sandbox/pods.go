package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// startingAtOnce bounds how many pods are being started at the same moment.
const startingAtOnce = 16

// pods makes the API server's Pod objects real.
type pods struct {
	s         *Sandbox
	addresses addresses
	starting  chan struct{}

	mu    sync.Mutex
	watch *watch // nil before run
	byUID map[types.UID]*pod
}

func newPods(s *Sandbox) *pods {
	return &pods{s: s, starting: make(chan struct{}, startingAtOnce), byUID: map[types.UID]*pod{}}
}

// run compares the objects with the pods that run, whenever an object changed,
// until ctx ends; then it waits for all pods to stop.
func (ps *pods) run(ctx context.Context, w *watch) error {
	ps.mu.Lock()
	ps.watch = w
	ps.mu.Unlock()
	ps.forgetStrangers()
	var running sync.WaitGroup
	defer running.Wait()
	w.podChanged.ring()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.podChanged:
		}
		objs, err := w.pods.List(labels.Everything())
		if err != nil {
			return err
		}
		ps.reconcile(ctx, objs, &running)
	}
}

func (ps *pods) reconcile(ctx context.Context, objs []*corev1.Pod, running *sync.WaitGroup) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	exists := make(map[types.UID]bool, len(objs))
	for _, obj := range objs {
		exists[obj.UID] = true
		if p, ok := ps.byUID[obj.UID]; ok {
			p.update(obj)
			continue
		}
		p := newPod(ps, obj)
		ps.byUID[obj.UID] = p
		running.Go(func() {
			p.run(ctx)
			ps.mu.Lock()
			defer ps.mu.Unlock()
			delete(ps.byUID, p.uid)
		})
	}
	for uid, p := range ps.byUID {
		if !exists[uid] {
			p.remove()
		}
	}
}

// forgetStrangers deletes what is on disk of pods that are no more.
func (ps *pods) forgetStrangers() {
	objs, err := ps.watch.pods.List(labels.Everything())
	if err != nil {
		return
	}
	known := map[string]bool{}
	for _, obj := range objs {
		known[string(obj.UID)] = true
	}
	entries, err := os.ReadDir(ps.root())
	if err != nil {
		return
	}
	for _, e := range entries {
		if !known[e.Name()] {
			_ = os.RemoveAll(filepath.Join(ps.root(), e.Name()))
		}
	}
}

// root of what is on disk of the pods.
func (ps *pods) root() string { return filepath.Join(ps.s.cfg.StateDir, "pods") }

func (ps *pods) get(namespace, name string) (*corev1.Pod, error) {
	ps.mu.Lock()
	w := ps.watch
	ps.mu.Unlock()
	if w == nil {
		return nil, errors.New("the sandbox does not run yet")
	}
	return w.pods.Pods(namespace).Get(name)
}

// log of the current, or previous, run of a container; nil if there is none.
func (ps *pods) log(obj *corev1.Pod, container string, previous bool) *containerLog {
	ps.mu.Lock()
	p := ps.byUID[obj.UID]
	ps.mu.Unlock()
	if p != nil && !previous {
		if c := p.container(container); c != nil {
			if l := c.currentLog(); l != nil {
				return l
			}
		}
	}
	dir := logDir(ps.root(), obj.UID, container)
	run := lastRun(dir)
	if previous {
		run--
	}
	if run < 0 {
		return nil
	}
	l, err := openLog(dir, run)
	if err != nil {
		return nil
	}
	return l
}

// status of a container: as it is, which may be newer than what the API says.
func (ps *pods) status(obj *corev1.Pod, name string) *corev1.ContainerStatus {
	ps.mu.Lock()
	p := ps.byUID[obj.UID]
	ps.mu.Unlock()
	if p != nil {
		if c := p.container(name); c != nil {
			status := c.status()
			return &status
		}
	}
	return containerStatus(obj, name)
}

// writer is the container that writes a log now, or nil.
func (ps *pods) writer(l *containerLog) *container {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.byUID {
		for _, c := range p.all() {
			if c.currentLog() == l {
				return c
			}
		}
	}
	return nil
}

func logDir(root string, uid types.UID, container string) string {
	return filepath.Join(root, string(uid), "logs", container)
}
