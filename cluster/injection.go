package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"hasp/inject"
)

// namespaceTimeout bounds the question for a pod's namespace.
const namespaceTimeout = 5 * time.Second

// injection is the settings of the sidecars, which are in a ConfigMap and may
// change at any time, and the webhook that uses them.
type injection struct {
	client      kubernetes.Interface
	trustDomain string // the mesh's, whatever the settings say
	log         *slog.Logger
	event       func(ctx context.Context, about corev1.ObjectReference, reason, message string)

	settings atomic.Pointer[inject.Config] // the last good ones
	missing  atomic.Pointer[error]         // why there are none
}

// follow takes over every change of the settings until ctx ends. Settings that
// cannot be read are refused, and the last good ones serve.
func (i *injection) follow(ctx context.Context) error {
	maps := func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
		return f.Core().V1().ConfigMaps().Informer()
	}
	return followNamed(ctx, i.client, maps, []string{inject.ConfigMapName}, func(stores []cache.Store) { i.take(ctx, stores[0].List()) })
}

func (i *injection) take(ctx context.Context, found []any) {
	const name = Namespace + "/" + inject.ConfigMapName
	if len(found) == 0 {
		err := fmt.Errorf("there is no ConfigMap %s with the settings of sidecars", name)
		i.missing.Store(&err)
		i.log.Warn("sidecars' settings are missing", slog.String("configmap", name))
		return
	}
	m := found[0].(*corev1.ConfigMap)
	cfg, err := inject.ParseConfig("ConfigMap "+name, []byte(m.Data[inject.ConfigMapKey]))
	if err != nil {
		i.missing.Store(&err)
		i.log.Error("sidecars' settings not taken over", slog.String("configmap", name), slog.Any("error", err))
		i.event(ctx, corev1.ObjectReference{APIVersion: "v1", Kind: "ConfigMap", Namespace: m.Namespace, Name: m.Name, UID: m.UID}, "Refused", err.Error())
		return
	}
	cfg.TrustDomain = i.trustDomain
	i.settings.Store(&cfg)
	i.log.Info("sidecars' settings taken over", slog.String("configmap", name))
}

// read reports whether it is known if there are settings. Bad or missing ones
// are no reason to serve nobody: proxies that run need none.
func (i *injection) read() bool { return i.settings.Load() != nil || i.missing.Load() != nil }

// why no pod can be injected now, nil when one can.
func (i *injection) why() error {
	if i.settings.Load() != nil {
		return nil
	}
	if err := i.missing.Load(); err != nil {
		return *err
	}
	return errors.New("the settings of sidecars are not read yet")
}

// handler injects, or keeps a pod out as long as there are no settings: it
// asked for a sidecar and must not start without one.
func (i *injection) handler() http.Handler {
	h := inject.Handler{Config: func() inject.Config { return *i.settings.Load() }, Namespace: i.namespace, Log: i.log}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := i.why(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// namespace is asked for anew for every pod. A copy that is a moment old would
// let a pod start outside the mesh just after its namespace was labelled.
func (i *injection) namespace(name string) (*corev1.Namespace, error) {
	ctx, cancel := context.WithTimeout(context.Background(), namespaceTimeout)
	defer cancel()
	return i.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
}
