package cluster

import (
	"bytes"
	"context"
	"log/slog"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// follow takes over every change of the Secrets until ctx ends.
func (a *authority) follow(ctx context.Context) error {
	var names []string
	for _, name := range []string{a.given, a.own} {
		if name != "" {
			names = append(names, name)
		}
	}
	secrets := func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
		return f.Core().V1().Secrets().Informer()
	}
	return followNamed(ctx, a.client, secrets, names, func(stores []cache.Store) { a.look(ctx, stores) })
}

// followNamed shows the stores of objects of the root namespace, one for each
// name, once they were read and after every change, until ctx ends.
func followNamed(ctx context.Context, client kubernetes.Interface, kind func(informers.SharedInformerFactory) cache.SharedIndexInformer, names []string, show func([]cache.Store)) error {
	dirty := make(chan struct{}, 1)
	var stores []cache.Store
	for _, name := range names {
		f := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(Namespace),
			informers.WithTweakListOptions(named(name)))
		inf := kind(f)
		if _, err := inf.AddEventHandler(onChange(func(string) { signal(dirty) })); err != nil {
			return err
		}
		f.Start(ctx.Done())
		defer f.Shutdown()
		if !cache.WaitForCacheSync(ctx.Done(), inf.HasSynced) {
			return nil
		}
		stores = append(stores, inf.GetStore())
	}
	signal(dirty)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-dirty:
			show(stores)
		}
	}
}

// look takes over the Secret that wins. When the given one is gone the last
// good goes on until a restart, whatever else there is: somebody who replaces it
// by deleting it first must not have a moment's certificates of another root.
func (a *authority) look(ctx context.Context, stores []cache.Store) {
	for _, store := range stores {
		for _, s := range store.List() {
			if s := s.(*corev1.Secret); s.Name == a.inUse() || s.Name == a.given {
				a.take(ctx, s)
				return
			}
		}
	}
	signal(a.gone)
	a.log.Warn("the authority's Secret is gone, what it held goes on", slog.String("secret", Namespace+"/"+a.inUse()))
}

// take signs with a Secret from now on. One that cannot sign is refused, said
// once, and the last good one goes on.
func (a *authority) take(ctx context.Context, s *corev1.Secret) {
	files := filesOf(s)
	a.mu.Lock()
	defer a.mu.Unlock()
	version := string(s.UID) + s.ResourceVersion
	if a.refused == version || a.from == s.Name && maps.EqualFunc(a.files, files, bytes.Equal) {
		return
	}
	if err := a.ca.Replace(files); err != nil {
		a.refused = version
		a.log.Error("authority not taken over, the last good one goes on", slog.String("secret", Namespace+"/"+s.Name), slog.Any("error", err))
		a.event(ctx, reference(s), "Refused", err.Error()+"; the last good authority goes on signing")
		return
	}
	a.from, a.files = s.Name, files
	close(a.changed)
	a.changed = make(chan struct{})
	a.log.Info("authority taken over", slog.String("secret", Namespace+"/"+s.Name))
}

// named restricts a list or watch to one object. A role can then grant it by
// resourceNames.
func named(name string) func(*metav1.ListOptions) {
	return func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	}
}

// onChange calls f with the NAMESPACE/NAME of whatever was added, changed or
// deleted.
func onChange(f func(key string)) cache.ResourceEventHandler {
	tell := func(obj any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); err == nil {
			f(key)
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: tell, DeleteFunc: tell, UpdateFunc: func(_, now any) { tell(now) }}
}

// signal without waiting: one that is not yet taken says it all.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
