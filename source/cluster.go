package source

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"hasp/api"
	"hasp/world"
)

// FromCluster builds a World from one listing of everything: what a command
// does that looks once.
func FromCluster(ctx context.Context, client dynamic.Interface) (*world.World, []Problem, error) {
	var o Objects
	for _, r := range Resources() {
		list, err := client.Resource(r).List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			continue // a cluster without this kind
		}
		if err != nil {
			return nil, nil, fmt.Errorf("list %s: %w", r.Resource, err)
		}
		for i := range list.Items {
			v, err := api.FromUnstructured(&list.Items[i])
			if err != nil {
				return nil, nil, err
			}
			o.add(v)
		}
	}
	w, problems := Build(&o, "")
	return w, problems, nil
}

// Watcher keeps a copy of everything hasp reads, by informers.
type Watcher struct {
	log       *slog.Logger
	factory   dynamicinformer.DynamicSharedInformerFactory
	informers []cache.SharedIndexInformer
}

// NewWatcher prepares informers; Run starts them. changed is called, from
// several goroutines, whenever something was added, changed or deleted; it must
// not block. A change of nothing but an istio object's status is not one.
func NewWatcher(client dynamic.Interface, log *slog.Logger, changed func()) (*Watcher, error) {
	w := &Watcher{log: log, factory: dynamicinformer.NewDynamicSharedInformerFactory(client, 0)}
	for _, r := range Resources() {
		inf := w.factory.ForResource(r).Informer()
		if err := inf.SetTransform(w.typed); err != nil {
			return nil, fmt.Errorf("watch %s: %w", r.Resource, err)
		}
		_, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { changed() },
			DeleteFunc: func(any) { changed() },
			UpdateFunc: func(old, now any) {
				if !sameSpec(old, now) {
					changed()
				}
			},
		})
		if err != nil {
			return nil, fmt.Errorf("watch %s: %w", r.Resource, err)
		}
		w.informers = append(w.informers, inf)
	}
	return w, nil
}

// typed is the informers' transform. An object that does not decode stays out
// of the World, which the log says; it must not hide the others.
func (w *Watcher) typed(obj any) (any, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return obj, nil
	}
	v, err := api.FromUnstructured(u)
	if err != nil {
		w.log.Warn("object left out", slog.String("kind", u.GetKind()), slog.String("namespace", u.GetNamespace()), slog.String("name", u.GetName()), slog.Any("error", err))
		return u, nil
	}
	if m, ok := v.(metav1.Object); ok {
		m.SetManagedFields(nil)
	}
	return v, nil
}

// sameSpec: objects with a generation count changes of their spec there, so an
// update that leaves generation, labels and annotations alone was one of
// status. Kinds without a generation (Pods here, Services, ConfigMaps) always
// count as changed.
func sameSpec(old, now any) bool {
	a, ok1 := old.(metav1.Object)
	b, ok2 := now.(metav1.Object)
	if !ok1 || !ok2 {
		return false
	}
	if a.GetResourceVersion() == b.GetResourceVersion() {
		return true
	}
	var o Objects
	o.add(now)
	if len(o.Pods)+len(o.Services)+len(o.Namespaces)+len(o.Secrets)+len(o.ConfigMaps) > 0 {
		return false
	}
	return a.GetGeneration() != 0 && a.GetGeneration() == b.GetGeneration() &&
		fmt.Sprint(a.GetLabels(), a.GetAnnotations()) == fmt.Sprint(b.GetLabels(), b.GetAnnotations())
}

// Run starts the informers and blocks until ctx ends and they have stopped.
func (w *Watcher) Run(ctx context.Context) {
	w.factory.Start(ctx.Done())
	<-ctx.Done()
	w.factory.Shutdown()
}

// Synced waits until everything was read once.
func (w *Watcher) Synced(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		synced := true
		for _, inf := range w.informers {
			synced = synced && inf.HasSynced()
		}
		if synced {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the first reading of the cluster: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// Objects are what the informers hold now. The objects are shared: do not
// change them.
func (w *Watcher) Objects() *Objects {
	o := &Objects{}
	for _, inf := range w.informers {
		for _, v := range inf.GetStore().List() {
			o.add(v)
		}
	}
	return o
}
