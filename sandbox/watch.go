package sandbox

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// watch is what the sandbox sees of the API server: caches, and bells that ring
// when something in them changed.
type watch struct {
	pods        corelisters.PodLister
	services    corelisters.ServiceLister
	namespaces  corelisters.NamespaceLister
	deployments appslisters.DeploymentLister

	podChanged        bell // for the runner
	deploymentChanged bell // or a pod
	networkChanged    bell // a Service or a pod

	sync []cache.DoneChecker
}

// bell is a channel that holds at most one ring: somebody who comes late hears
// that there was one, not how many.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}

func newWatch(f informers.SharedInformerFactory) (*watch, error) {
	core := f.Core().V1()
	w := &watch{
		pods:        core.Pods().Lister(),
		services:    core.Services().Lister(),
		namespaces:  core.Namespaces().Lister(),
		deployments: f.Apps().V1().Deployments().Lister(),
		podChanged:  newBell(), deploymentChanged: newBell(), networkChanged: newBell(),
	}
	for _, x := range []struct {
		informer cache.SharedIndexInformer
		bells    []bell
	}{
		{core.Pods().Informer(), []bell{w.podChanged, w.deploymentChanged, w.networkChanged}},
		{core.Services().Informer(), []bell{w.networkChanged}},
		{core.Namespaces().Informer(), nil},
		{f.Apps().V1().Deployments().Informer(), []bell{w.deploymentChanged}},
	} {
		ring := func() {
			for _, b := range x.bells {
				b.ring()
			}
		}
		reg, err := x.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { ring() },
			UpdateFunc: func(any, any) { ring() },
			DeleteFunc: func(any) { ring() },
		})
		if err != nil {
			return nil, fmt.Errorf("sandbox: watch the API server: %w", err)
		}
		w.sync = append(w.sync, reg.HasSyncedChecker())
	}
	return w, nil
}

// synced waits until the caches are filled.
func (w *watch) synced(ctx context.Context) bool {
	return cache.WaitFor(ctx, "", w.sync...)
}

// settle is how long a change waits for its neighbours: a rollout changes many
// objects at once.
const settle = 2 * time.Millisecond

// balanceLoop keeps DNS and the fabric's ruleset as the Services and pods are.
func (s *Sandbox) balanceLoop(ctx context.Context, w *watch) error {
	var last string
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.networkChanged:
		case <-retry.C:
		}
		if !pause(ctx, settle) {
			return nil
		}
		services, pods, err := w.network()
		if err != nil {
			return err
		}
		s.resolver.zone.Store(zoneOf(services, pods))
		b := balanceOf(services, pods)
		if text := b.String(); text != last {
			if err := s.fabric.balance(b); err != nil {
				// The ruleset before still serves.
				s.log.Error("services not updated", "err", err)
				retry.Reset(time.Second)
				continue
			}
			last = text
		}
	}
}

func (w *watch) network() ([]*corev1.Service, []*corev1.Pod, error) {
	services, err := w.services.List(labels.Everything())
	if err != nil {
		return nil, nil, fmt.Errorf("sandbox: list services: %w", err)
	}
	pods, err := w.pods.List(labels.Everything())
	if err != nil {
		return nil, nil, fmt.Errorf("sandbox: list pods: %w", err)
	}
	return services, pods, nil
}

// namespaceLabels are a namespace's labels; none when there is no such object.
func (w *watch) namespaceLabels(name string) (map[string]string, error) {
	ns, err := w.namespaces.Get(name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	return ns.Labels, nil
}

// pause waits, and reports whether ctx is still alive afterwards.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
