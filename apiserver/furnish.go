package apiserver

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// permanentNamespaces exist at every start and cannot be deleted.
var permanentNamespaces = []string{"default", "kube-system", "istio-system"}

// furnish makes an empty server usable, says so, and then looks after its
// Namespaces until ctx ends.
func (s *Server) furnish(ctx context.Context, start time.Time) error {
	client, err := kubernetes.NewForConfig(s.RESTConfig())
	if err != nil {
		return err
	}
	if err := answering(ctx, client); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return installCRDs(gctx, s.RESTConfig(), s.cfg.CRDs) })
	g.Go(func() error {
		return makeNamespaces(gctx, client, append(slices.Clone(permanentNamespaces), s.cfg.Namespace))
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if err := healthy(ctx, client); err != nil {
		return err
	}
	s.cfg.Log.Info("API server ready", "url", s.cfg.ExternalURL, "after", time.Since(start).Round(time.Millisecond))
	close(s.ready)
	return newNamespaces(client, s.RESTConfig(), s.cfg.Log).run(ctx)
}

// answering waits until the server answers at all.
func answering(ctx context.Context, client kubernetes.Interface) error {
	return poll(ctx, func() (bool, error) {
		err := client.Discovery().RESTClient().Get().AbsPath("/livez/ping").Do(ctx).Error()
		return err == nil, nil
	})
}

// healthy waits for /readyz.
func healthy(ctx context.Context, client kubernetes.Interface) error {
	return poll(ctx, func() (bool, error) {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil, nil
	})
}

// poll asks until the answer is yes. Everything here becomes true within
// milliseconds, and nothing tells us when.
func poll(ctx context.Context, ok func() (bool, error)) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if yes, err := ok(); yes || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func makeNamespaces(ctx context.Context, client kubernetes.Interface, names []string) error {
	for _, n := range names {
		if _, err := client.CoreV1().Namespaces().Get(ctx, n, metav1.GetOptions{}); err == nil {
			continue
		}
		_, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n}}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create namespace %s: %w", n, err)
		}
		if err := makeServiceAccount(ctx, client, n); err != nil {
			return err
		}
	}
	return nil
}

// makeServiceAccount gives a Namespace the identity of pods that name none.
func makeServiceAccount(ctx context.Context, client kubernetes.Interface, namespace string) error {
	_, err := client.CoreV1().ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create service account %s/default: %w", namespace, err)
	}
	return nil
}
