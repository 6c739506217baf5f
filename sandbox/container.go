package sandbox

import (
	"context"
	"io"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kind is the part that a container plays in its pod.
type kind int

const (
	appKind     kind = iota
	gatewayKind      // an application container that is the mesh's proxy
	proxyKind        // the sidecar that the mesh adds
	sidecarKind      // an init container that stays (restartPolicy: Always)
	initKind
)

// crashLoop is the reason of a container that waits to be restarted.
const crashLoop = "CrashLoopBackOff"

// Restarts wait from a second up to five minutes, doubling each time; a run of
// ten minutes is forgiven everything. (A kubelet begins at ten seconds, for the
// sake of machines with many tenants.)
const (
	firstBackoff = time.Second
	lastBackoff  = 5 * time.Minute
	goodRun      = 10 * time.Minute
)

// container is one container of a pod and all its runs.
type container struct {
	p     *pod
	spec  corev1.Container
	kind  kind
	image Image

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each change
	state    corev1.ContainerState
	last     corev1.ContainerState
	restarts int32
	started  bool
	ready    bool
	done     bool // will not run again
	log      *containerLog
	stdin    *os.File
}

func newContainer(p *pod, obj *corev1.Pod, spec corev1.Container, k kind, image Image, resumed bool) *container {
	c := &container{p: p, spec: spec, kind: k, image: image, changed: make(chan struct{})}
	c.state.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
	if before := containerStatus(obj, spec.Name); resumed && before != nil {
		c.last, c.restarts = before.State, before.RestartCount
		if before.State.Waiting == nil || before.State.Waiting.Reason == crashLoop {
			c.restarts++
		}
		if end := before.State.Terminated; k == appKind && end != nil && end.ExitCode == 0 && restartPolicy(obj) == corev1.RestartPolicyOnFailure {
			c.state, c.last, c.done, c.restarts = before.State, before.LastTerminationState, true, before.RestartCount
		}
		if c.last.Terminated == nil {
			c.last = corev1.ContainerState{}
		}
	}
	// A log that is there is never written over.
	c.restarts = max(c.restarts, int32(lastRun(c.logDir())+1))
	return c
}

func (c *container) logDir() string { return logDir(c.p.ps.root(), c.p.uid, c.spec.Name) }

// set changes the container and tells everybody.
func (c *container) set(change func()) {
	c.mu.Lock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	c.p.changed.ring()
}

func (c *container) wait(reason, message string) {
	c.set(func() {
		c.state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
		c.started, c.ready = false, false
	})
}

// refuse ends a container that never ran. Its log is there, and empty: the
// message is in its status, which is where "kubectl run -i" takes it from.
func (c *container) refuse(reason, message string) {
	if l, err := createLog(c.logDir(), int(c.restarts)); err == nil {
		l.close()
	}
	now := metav1.Now()
	c.set(func() {
		c.done = true
		c.state = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: codeCannotRun, Reason: reason, Message: message, StartedAt: now, FinishedAt: now,
		}}
	})
}

func (c *container) status() corev1.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	started := c.started
	return corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, State: c.state, LastTerminationState: c.last,
		Ready: c.ready || c.kind == initKind && c.done, Started: &started, RestartCount: c.restarts,
		ContainerID: "hasp://" + string(c.p.uid) + "/" + c.spec.Name,
	}
}

func (c *container) condition() (corev1.ContainerState, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state, c.done
}

func (c *container) currentLog() *containerLog {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log
}

// await waits for the container to be as wanted; false when ctx ended first.
func (c *container) await(ctx context.Context, wanted func(*container) bool) bool {
	for {
		c.mu.Lock()
		ok, changed := wanted(c), c.changed
		c.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}

// run runs the container, again and again as its pod's policy says, until it
// ended for good or ctx ends, and gives the last exit code.
func (c *container) run(ctx context.Context, grace func() time.Duration) int {
	if _, done := c.condition(); done {
		return 0
	}
	backoff := firstBackoff
	for {
		begin := time.Now()
		code := c.once(ctx, grace)
		if ctx.Err() != nil || !c.again(code) {
			c.set(func() { c.done = true })
			return code
		}
		if time.Since(begin) > goodRun {
			backoff = firstBackoff
		}
		c.set(func() {
			c.last = c.state
			c.state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: crashLoop, Message: "restarting in " + backoff.String()}}
		})
		if !pause(ctx, backoff) {
			return code
		}
		backoff = min(2*backoff, lastBackoff)
		c.set(func() { c.restarts++ })
		forgetRuns(c.logDir(), int(c.restarts)-1)
	}
}

// again reports whether the container is run again after it ended with code.
func (c *container) again(code int) bool {
	policy := restartPolicy(c.p.object())
	switch {
	case c.kind == proxyKind || c.kind == sidecarKind:
		return true
	case c.kind == initKind:
		return code != 0 && policy != corev1.RestartPolicyNever
	}
	return policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && code != 0
}

// feed forwards what the container asked to be told, until it or r ends.
func (c *container) feed(r io.Reader) {
	c.mu.Lock()
	w := c.stdin
	c.mu.Unlock()
	if w == nil {
		return
	}
	_, err := io.Copy(w, r)
	if err == nil && c.spec.StdinOnce {
		w.Close()
	}
}
