package sandbox

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Bounds of a pod's end.
const (
	defaultGrace  = 30 * time.Second
	shutdownGrace = 2 * time.Second // when the sandbox ends, or the object is gone already
	retryPeriod   = 5 * time.Second
)

// pod is one Pod object made real.
type pod struct {
	ps  *pods
	s   *Sandbox
	uid types.UID

	changed bell          // the status has to be written
	gone    chan struct{} // the object is to go, or went
	goOnce  sync.Once
	writing sync.Mutex // one write of the status at a time

	mu      sync.Mutex
	obj     *corev1.Pod // newest
	removed bool        // the object is gone already
	ip4     string
	ip6     string
	started *metav1.Time
	initial bool // init containers are done
	failed  *failure
	members []*container // init containers, proxy, containers
	net     *network
}

// failure is why a pod as a whole failed, or cannot start.
type failure struct{ reason, message string }

func newPod(ps *pods, obj *corev1.Pod) *pod {
	p := &pod{ps: ps, s: ps.s, uid: obj.UID, changed: newBell(), gone: make(chan struct{})}
	p.update(obj)
	return p
}

// update takes the newest object in.
func (p *pod) update(obj *corev1.Pod) {
	p.mu.Lock()
	p.obj = obj
	p.mu.Unlock()
	if obj.DeletionTimestamp != nil {
		p.goOnce.Do(func() { close(p.gone) })
	}
}

// remove: the object is not there any more.
func (p *pod) remove() {
	p.mu.Lock()
	p.removed = true
	p.mu.Unlock()
	p.goOnce.Do(func() { close(p.gone) })
}

func (p *pod) isGone() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

func (p *pod) object() *corev1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.obj
}

func (p *pod) container(name string) *container {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.members {
		if c.spec.Name == name {
			return c
		}
	}
	return nil
}

// dir is what is on disk of the pod.
func (p *pod) dir() string { return filepath.Join(p.ps.root(), string(p.uid)) }

// run is the whole life of a pod: until its object is gone, or ctx ends.
func (p *pod) run(ctx context.Context) {
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	var helpers sync.WaitGroup
	helpers.Go(func() { // the object's end is the pod's
		select {
		case <-life.Done():
		case <-p.gone:
			cancel()
		}
	})
	reporting, stopReporting := context.WithCancel(ctx)
	helpers.Go(func() { p.report(reporting) })

	if !finished(p.object().Status.Phase) && !p.isGone() {
		p.live(life, ctx)
	}
	p.changed.ring()
	select {
	case <-ctx.Done():
	case <-p.gone:
	}
	cancel()
	stopReporting()
	helpers.Wait()
	if ctx.Err() == nil {
		p.forget(ctx)
	}
}

// forget deletes the object, if it still exists, and what is on disk.
func (p *pod) forget(ctx context.Context) {
	p.mu.Lock()
	removed, obj := p.removed, p.obj
	p.mu.Unlock()
	for !removed {
		now := int64(0)
		err := p.s.cfg.Client.CoreV1().Pods(obj.Namespace).Delete(ctx, obj.Name, metav1.DeleteOptions{
			GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &p.uid},
		})
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			break
		}
		if !pause(ctx, retryPeriod) {
			return
		}
		p.s.log.Warn("pod not deleted yet", "pod", obj.Namespace+"/"+obj.Name, "err", err)
	}
	if err := os.RemoveAll(p.dir()); err != nil {
		p.s.log.Warn("pod's files not deleted", "pod", obj.Namespace+"/"+obj.Name, "err", err)
	}
}

// live runs the pod's containers until they finished for good or life ends.
func (p *pod) live(life, sandbox context.Context) {
	obj := p.object()
	if err := validate(obj); err != nil {
		p.fail("Invalid", err.Error())
		return
	}
	resumed := obj.Status.StartTime != nil
	if resumed && restartPolicy(obj) == corev1.RestartPolicyNever {
		p.fail("SandboxStopped", "the pod ran when the sandbox was stopped")
		return
	}
	p.mu.Lock()
	now := metav1.Now()
	p.started = &now
	if resumed {
		p.started = obj.Status.StartTime
	}
	p.mu.Unlock()
	if err := p.plan(obj, resumed); err != nil {
		p.cannotStart(obj, err)
		return
	}
	if !p.connect(life) {
		return
	}
	defer p.disconnect()
	// The mesh should know whose address it is before the first packet.
	_ = p.writeStatus(life) // else report will
	p.play(life, sandbox)
}

func restartPolicy(obj *corev1.Pod) corev1.RestartPolicy {
	if obj.Spec.RestartPolicy == "" {
		return corev1.RestartPolicyAlways
	}
	return obj.Spec.RestartPolicy
}

// grace is how long the pod's programs have between being asked to end and
// being killed.
func (p *pod) grace(sandbox context.Context) time.Duration {
	obj := p.object()
	d := defaultGrace
	if s := obj.Spec.TerminationGracePeriodSeconds; s != nil {
		d = time.Duration(*s) * time.Second
	}
	if s := obj.DeletionGracePeriodSeconds; s != nil {
		d = time.Duration(*s) * time.Second
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if sandbox.Err() != nil || p.removed {
		d = min(d, shutdownGrace)
	}
	return d
}

// fail ends the pod before any container ran.
func (p *pod) fail(reason, message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = &failure{reason, message}
	p.changed.ring()
}

func (p *pod) name() string {
	obj := p.object()
	return obj.Namespace + "/" + obj.Name
}

func (p *pod) all() []*container {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.members
}
