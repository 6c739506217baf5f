package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
)

// Watcher keeps a copy of everything hasp reads, by informers.
type Watcher struct {
	log       *slog.Logger
	changed   func()
	factories []dynamicinformer.DynamicSharedInformerFactory
	reads     []*reading
}

// reading is one kind in one namespace, or in all.
type reading struct {
	resource schema.GroupVersionResource
	informer cache.SharedIndexInformer
	// absent: the API server does not serve the kind, or did not yet.
	absent atomic.Bool
	// told is the trouble that the log knows of.
	mu   sync.Mutex
	told string
}

// NewWatcher prepares informers for what the scope names; Run starts them.
// changed is called, from several goroutines, whenever something that [Build]
// reads was added, changed or deleted; it must not block.
func NewWatcher(client dynamic.Interface, scope Scope, log *slog.Logger, changed func()) (*Watcher, error) {
	w := &Watcher{log: log, changed: changed}
	factories := map[string]dynamicinformer.DynamicSharedInformerFactory{}
	for _, r := range Resources() {
		for _, namespace := range scope.namespaces(r) {
			f := factories[namespace]
			if f == nil {
				f = dynamicinformer.NewFilteredDynamicSharedInformerFactory(client, 0, namespace, nil)
				factories[namespace] = f
				w.factories = append(w.factories, f)
			}
			if err := w.read(r, f.ForResource(r).Informer()); err != nil {
				return nil, fmt.Errorf("watch %s: %w", r.Resource, err)
			}
		}
	}
	return w, nil
}

func (w *Watcher) read(r schema.GroupVersionResource, informer cache.SharedIndexInformer) error {
	reading := &reading{resource: r, informer: informer}
	w.reads = append(w.reads, reading)
	if err := informer.SetTransform(w.typed); err != nil {
		return err
	}
	if err := informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { w.failed(reading, err) }); err != nil {
		return err
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { w.changed() },
		DeleteFunc: func(any) { w.changed() },
		UpdateFunc: func(old, now any) {
			if !same(old, now) {
				w.changed()
			}
		},
	})
	return err
}

// failed is told of every reading that ends before its time; the informer tries
// again by itself, at most a minute later. A kind that the API server does not
// serve must not hold up the others: there are no objects of it, until somebody
// installs it.
func (w *Watcher) failed(r *reading, err error) {
	var what string
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), apierrors.IsResourceExpired(err), apierrors.IsGone(err):
		return // how a watch ends
	case apierrors.IsNotFound(err):
		what = "the API server does not serve this kind; it is read as soon as it does"
		r.absent.Store(true)
	default:
		what = err.Error()
	}
	r.mu.Lock()
	known := r.told == what
	r.told = what
	r.mu.Unlock()
	if known {
		return
	}
	level := slog.LevelWarn
	if r.absent.Load() && r.resource.Group == sliceGroup {
		level = slog.LevelDebug // the embedded API server has no such thing
	}
	w.log.Log(context.Background(), level, "not read", slog.String("resource", r.resource.GroupResource().String()), slog.String("why", what))
}

// Run starts the informers and blocks until ctx ends and they have stopped.
func (w *Watcher) Run(ctx context.Context) {
	for _, f := range w.factories {
		f.Start(ctx.Done())
	}
	<-ctx.Done()
	for _, f := range w.factories {
		f.Shutdown()
	}
}

// Synced waits until everything that the API server serves was read once.
func (w *Watcher) Synced(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		synced := true
		for _, r := range w.reads {
			synced = synced && (r.informer.HasSynced() || r.absent.Load())
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

// Objects are what the informers hold now, without the parts that Build does
// not read. The objects are shared: do not change them.
func (w *Watcher) Objects() *Objects {
	o := &Objects{}
	for _, r := range w.reads {
		for _, v := range r.informer.GetStore().List() {
			o.add(v)
		}
	}
	return o
}
