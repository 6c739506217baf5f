package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// rootWriters bounds the ConfigMaps written at a time.
const rootWriters = 4

// roots keeps ConfigMap istio-ca-root-cert in every namespace: what pods verify
// the control plane with at first. It is a leader's duty.
type roots struct {
	client     kubernetes.Interface
	bundle     func() []byte // all roots, PEM
	changed    func() <-chan struct{}
	log        *slog.Logger
	namespaces listers.NamespaceLister
	maps       listers.ConfigMapLister
	queue      workqueue.TypedRateLimitingInterface[string] // names of namespaces
}

// distribute until ctx ends: to new namespaces at once, again where somebody
// edited or deleted it, and everywhere when the roots change.
func (r *roots) distribute(ctx context.Context) error {
	r.queue = workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](50*time.Millisecond, time.Minute))
	spaces := informers.NewSharedInformerFactory(r.client, 0)
	maps := informers.NewSharedInformerFactoryWithOptions(r.client, 0, informers.WithTweakListOptions(named(RootsConfigMap)))
	r.namespaces, r.maps = spaces.Core().V1().Namespaces().Lister(), maps.Core().V1().ConfigMaps().Lister()
	nsInf, mapInf := spaces.Core().V1().Namespaces().Informer(), maps.Core().V1().ConfigMaps().Informer()
	if _, err := nsInf.AddEventHandler(onChange(r.queue.Add)); err != nil {
		return err
	}
	if _, err := mapInf.AddEventHandler(onChange(func(key string) {
		namespace, _, _ := cache.SplitMetaNamespaceKey(key)
		r.queue.Add(namespace)
	})); err != nil {
		return err
	}
	for _, f := range []informers.SharedInformerFactory{spaces, maps} {
		f.Start(ctx.Done())
		defer f.Shutdown()
	}
	if !cache.WaitForCacheSync(ctx.Done(), nsInf.HasSynced, mapInf.HasSynced) {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	for range rootWriters {
		g.Go(func() error { r.work(ctx); return nil })
	}
	g.Go(func() error { r.again(ctx); return nil })
	return g.Wait()
}

// again takes all namespaces up when the roots change; it ends the queue.
func (r *roots) again(ctx context.Context) {
	defer r.queue.ShutDown()
	for {
		changed := r.changed()
		for _, n := range nsNames(r.namespaces) {
			r.queue.Add(n)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func (r *roots) work(ctx context.Context) {
	for {
		namespace, over := r.queue.Get()
		if over {
			return
		}
		if err := r.write(ctx, namespace); err != nil && ctx.Err() == nil {
			r.log.Warn("roots not distributed", slog.String("namespace", namespace), slog.Any("error", err))
			r.queue.AddRateLimited(namespace)
		} else {
			r.queue.Forget(namespace)
		}
		r.queue.Done(namespace)
	}
}

// write makes the ConfigMap of one namespace right. A namespace that is gone or
// going needs none.
func (r *roots) write(ctx context.Context, namespace string) error {
	ns, err := r.namespaces.Get(namespace)
	if apierrors.IsNotFound(err) || err == nil && ns.DeletionTimestamp != nil {
		return nil
	}
	if err != nil {
		return err
	}
	want := map[string]string{RootsKey: string(r.bundle())}
	client := r.client.CoreV1().ConfigMaps(namespace)
	have, err := r.maps.ConfigMaps(namespace).Get(RootsConfigMap)
	switch {
	case apierrors.IsNotFound(err):
		_, err = client.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: RootsConfigMap, Namespace: namespace, Labels: ours()}, Data: want,
		}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil // the watch tells of it
		}
		err = goingNamespace(err)
	case err != nil:
	case len(have.Data) == 1 && have.Data[RootsKey] == want[RootsKey] && len(have.BinaryData) == 0:
		return nil
	default:
		next := have.DeepCopy()
		next.Data, next.BinaryData, next.Labels = want, nil, ours() // whoever's it was before
		_, err = client.Update(ctx, next, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return nil // changed or deleted meanwhile: the watch tells of it
		}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", RootsConfigMap, err)
	}
	return nil
}

// goingNamespace drops the error of a namespace that was deleted meanwhile.
func goingNamespace(err error) error {
	if apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	return err
}

func nsNames(l listers.NamespaceLister) []string {
	list, _ := l.List(labels.Everything()) // from memory, cannot fail
	var out []string
	for _, n := range list {
		out = append(out, n.Name)
	}
	return out
}
