package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
)

// Watcher follows everything hasp reads, by informers.
type Watcher struct {
	log       *slog.Logger
	changed   func()
	factories []dynamicinformer.DynamicSharedInformerFactory
	reads     []*reading

	mu   sync.Mutex
	news map[which]news // since Feed was called last
}

// which object something is about.
type which struct {
	kind            reflect.Type
	namespace, name string
}

// news of an object: what it is now, or that it is gone.
type news struct {
	object any
	gone   bool
}

// reading is one kind in one namespace, or in all.
type reading struct {
	resource schema.GroupVersionResource
	informer cache.SharedIndexInformer
	// handler has taken note of all that the informer has read when it has synced.
	handler cache.ResourceEventHandlerRegistration
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
	w := &Watcher{log: log, changed: changed, news: map[which]news{}}
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
	var err error
	reading.handler, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(v any) { w.note(v, false) },
		DeleteFunc: func(v any) {
			if last, ok := v.(cache.DeletedFinalStateUnknown); ok {
				v = last.Obj
			}
			w.note(v, true)
		},
		UpdateFunc: func(old, now any) {
			switch {
			case reflect.TypeOf(old) != reflect.TypeOf(now): // it decodes no more, or again
				w.note(old, true)
				w.note(now, false)
			case !same(old, now):
				w.note(now, false)
			}
		},
	})
	return err
}

// note what became of an object, and say so.
func (w *Watcher) note(v any, gone bool) {
	if m, ok := v.(metav1.Object); ok {
		w.mu.Lock()
		w.news[which{reflect.TypeOf(v), m.GetNamespace(), m.GetName()}] = news{v, gone}
		w.mu.Unlock()
	}
	w.changed()
}

// Feed a Builder with what changed since the last time. Objects are without the parts
// that it does not read.
func (w *Watcher) Feed(b *Builder) {
	w.mu.Lock()
	all := w.news
	w.news = map[which]news{}
	w.mu.Unlock()
	for _, n := range all {
		if n.gone {
			b.Remove(n.object)
		} else {
			b.Set(n.object)
		}
	}
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
			synced = synced && (r.handler.HasSynced() || r.absent.Load())
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
