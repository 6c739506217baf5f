package apiserver

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// recheck is how soon a Namespace that is not empty yet is looked at again.
const recheck = 50 * time.Millisecond

// syncTimeout bounds the work on one Namespace; the rest is for the next turn.
const syncTimeout = 10 * time.Second

// namespaces is the controller of Namespaces: each gets its default
// ServiceAccount, and one that is being deleted is emptied first.
type namespaces struct {
	client kubernetes.Interface
	cfg    *rest.Config
	log    *slog.Logger
	queue  workqueue.TypedRateLimitingInterface[string]
}

func newNamespaces(client kubernetes.Interface, cfg *rest.Config, log *slog.Logger) *namespaces {
	limit := workqueue.NewTypedItemExponentialFailureRateLimiter[string](recheck, 10*time.Second)
	return &namespaces{client, cfg, log, workqueue.NewTypedRateLimitingQueue(limit)}
}

// run works until ctx ends.
func (n *namespaces) run(ctx context.Context) error {
	f := informers.NewSharedInformerFactory(n.client, 0)
	inf := f.Core().V1().Namespaces().Informer()
	enqueue := func(o any) {
		if ns, ok := o.(*corev1.Namespace); ok {
			n.queue.Add(ns.Name)
		}
	}
	if _, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: enqueue, UpdateFunc: func(_, o any) { enqueue(o) }}); err != nil {
		return err
	}
	f.Start(ctx.Done())
	stop := context.AfterFunc(ctx, n.queue.ShutDown)
	defer stop()
	defer f.Shutdown()
	for {
		name, down := n.queue.Get()
		if down {
			return nil
		}
		n.handle(ctx, name)
	}
}

func (n *namespaces) handle(ctx context.Context, name string) {
	defer n.queue.Done(name)
	// What has begun is finished, even if the server is about to stop.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), syncTimeout)
	defer cancel()
	more, err := n.sync(work, name)
	switch {
	case err != nil && ctx.Err() == nil:
		n.log.Warn("namespace not in order yet", "namespace", name, "err", err)
		n.queue.AddRateLimited(name)
	case more:
		n.queue.AddAfter(name, recheck)
	default:
		n.queue.Forget(name)
	}
}

// sync brings one Namespace into order; more means: look again soon.
func (n *namespaces) sync(ctx context.Context, name string) (more bool, err error) {
	ns, err := n.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if ns.DeletionTimestamp == nil {
		err := makeServiceAccount(ctx, n.client, name)
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) { // deleted meanwhile; its event follows
			err = nil
		}
		return false, err
	}
	empty, err := n.empty(ctx, name)
	if err != nil || !empty {
		return true, err
	}
	ns.Finalizers = slices.DeleteFunc(ns.Finalizers, func(f string) bool { return f == contents })
	_, err = n.client.CoreV1().Namespaces().Update(ctx, ns, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		err = nil
	}
	return apierrors.IsConflict(err), err
}

// empty deletes what is in a Namespace and says whether nothing is left. Pods
// may take their grace period.
func (n *namespaces) empty(ctx context.Context, name string) (bool, error) {
	kinds, err := n.kinds()
	if err != nil {
		return false, err
	}
	client, err := metadata.NewForConfig(n.cfg)
	if err != nil {
		return false, err
	}
	left := false
	var errs []error
	for _, k := range kinds {
		r := client.Resource(k).Namespace(name)
		l, err := r.List(ctx, metav1.ListOptions{})
		if err == nil && len(l.Items) > 0 {
			left = true
			err = r.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		}
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return !left, errors.Join(errs...)
}

// kinds are the namespaced ones that can be deleted, each in one version.
func (n *namespaces) kinds() ([]schema.GroupVersionResource, error) {
	lists, err := n.client.Discovery().ServerPreferredNamespacedResources()
	if err != nil {
		return nil, err
	}
	set, err := discovery.GroupVersionResources(discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "deletecollection"}}, lists))
	if err != nil {
		return nil, err
	}
	out := make([]schema.GroupVersionResource, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	return out, nil
}
