package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"time"

	admission "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// bundleRetry is when a patch that failed is tried again.
const bundleRetry = 2 * time.Second

// bundles keeps the caBundle of our webhooks: what the API server verifies us
// with. It is a leader's duty.
type bundles struct {
	client  kubernetes.Interface
	bundle  func() []byte
	changed func() <-chan struct{}
	log     *slog.Logger
}

// keep until ctx ends.
func (b *bundles) keep(ctx context.Context) error {
	dirty := make(chan struct{}, 1)
	mutating := informers.NewSharedInformerFactoryWithOptions(b.client, 0, informers.WithTweakListOptions(named(MutatingWebhooks)))
	validating := informers.NewSharedInformerFactoryWithOptions(b.client, 0, informers.WithTweakListOptions(named(ValidatingWebhooks)))
	m := mutating.Admissionregistration().V1().MutatingWebhookConfigurations().Informer()
	v := validating.Admissionregistration().V1().ValidatingWebhookConfigurations().Informer()
	for _, inf := range []cache.SharedIndexInformer{m, v} {
		if _, err := inf.AddEventHandler(onChange(func(string) { signal(dirty) })); err != nil {
			return err
		}
	}
	for _, f := range []informers.SharedInformerFactory{mutating, validating} {
		f.Start(ctx.Done())
		defer f.Shutdown()
	}
	for {
		changed := b.changed()
		var retry <-chan time.Time
		for _, obj := range append(m.GetStore().List(), v.GetStore().List()...) {
			if !b.patch(ctx, obj) {
				retry = time.After(bundleRetry)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-dirty:
		case <-changed:
		case <-retry:
		}
	}
}

// patch sets the bundle in those webhooks of a configuration that call us and
// have another, and reports whether that is done.
func (b *bundles) patch(ctx context.Context, obj any) bool {
	bundle := b.bundle()
	var name string
	var stale []map[string]any
	add := func(webhook string, c admission.WebhookClientConfig) {
		if c.Service != nil && c.Service.Name == Service && c.Service.Namespace == Namespace && !bytes.Equal(c.CABundle, bundle) {
			stale = append(stale, map[string]any{"name": webhook, "clientConfig": map[string]any{"caBundle": bundle}})
		}
	}
	var err error
	switch o := obj.(type) {
	case *admission.MutatingWebhookConfiguration:
		for _, w := range o.Webhooks {
			add(w.Name, w.ClientConfig)
		}
		name = o.Name
		err = b.send(stale, func(body []byte) error {
			_, err := b.client.AdmissionregistrationV1().MutatingWebhookConfigurations().
				Patch(ctx, name, types.StrategicMergePatchType, body, metav1.PatchOptions{FieldManager: "hasp"})
			return err
		})
	case *admission.ValidatingWebhookConfiguration:
		for _, w := range o.Webhooks {
			add(w.Name, w.ClientConfig)
		}
		name = o.Name
		err = b.send(stale, func(body []byte) error {
			_, err := b.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().
				Patch(ctx, name, types.StrategicMergePatchType, body, metav1.PatchOptions{FieldManager: "hasp"})
			return err
		})
	}
	if err != nil && ctx.Err() == nil {
		b.log.Error("webhooks' caBundle not set", slog.String("configuration", name), slog.Any("error", err))
	}
	return err == nil
}

// send a patch of the webhooks that need one.
func (b *bundles) send(stale []map[string]any, patch func([]byte) error) error {
	if len(stale) == 0 {
		return nil
	}
	body, err := json.Marshal(map[string]any{"webhooks": stale})
	if err != nil {
		return err
	}
	return patch(body)
}
