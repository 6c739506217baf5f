package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"hasp/api"
	"hasp/apiserver"
	"hasp/source"
)

// cluster is where the objects are.
type cluster interface {
	// put creates or replaces an object, its status too. A Service may be given another
	// address.
	put(resource string, o metav1.Object) error
	remove(resource string, o metav1.Object) error
	// all are the objects of a resource, as JSON.
	all(resource string) ([][]byte, error)
	// reached is what the control plane reaches it by.
	reached() Reached
	close()
}

// Reached says where an API server is: its URL, or a kubeconfig.
type Reached struct{ URL, Kubeconfig string }

// embedded is the API server of the product, with its etcd, in this process.
type embedded struct {
	dir    string
	server *apiserver.Server
	client dynamic.Interface
	end    func() error
}

func newEmbedded(ctx context.Context) (*embedded, error) {
	crds, err := api.CRDs()
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "hasp-scale-api-")
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	e := &embedded{dir: dir}
	e.server, err = apiserver.New(ctx, apiserver.Config{Dir: filepath.Join(dir, "api"), Listener: ln, ExternalURL: "https://" + ln.Addr().String(),
		CRDs: crds, Validate: api.ValidateUnstructured, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- e.server.Run(ctx) }()
	e.end = func() error { stop(); return <-done }
	select {
	case <-e.server.Ready():
	case err := <-done:
		stop()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	cfg := rest.CopyConfig(e.server.RESTConfig())
	cfg.QPS = -1
	if e.client, err = dynamic.NewForConfig(cfg); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *embedded) reached() Reached { return Reached{Kubeconfig: e.server.Kubeconfig()} }

func (e *embedded) close() {
	_ = e.end()
	_ = os.RemoveAll(e.dir)
}

// of a resource, in the version that hasp reads it in.
func (e *embedded) of(resource, namespace string) (dynamic.ResourceInterface, error) {
	for _, r := range source.Resources() {
		if r.Resource == resource {
			return scoped(e.client, r, namespace), nil
		}
	}
	return nil, fmt.Errorf("hasp reads no %s", resource)
}

func scoped(c dynamic.Interface, r schema.GroupVersionResource, namespace string) dynamic.ResourceInterface {
	if namespace == "" {
		return c.Resource(r)
	}
	return c.Resource(r).Namespace(namespace)
}

func (e *embedded) put(resource string, o metav1.Object) error {
	ctx := context.Background()
	r, err := e.of(resource, o.GetNamespace())
	if err != nil {
		return err
	}
	if s, ok := o.(*corev1.Service); ok && s.ResourceVersion == "" {
		s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil // it has addresses of its own
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: content}
	if o.GetResourceVersion() == "" {
		if u, err = r.Create(ctx, u, metav1.CreateOptions{}); err != nil {
			return err
		}
		u.Object["status"] = content["status"]
	} else if resource != "pods" { // of which the status alone changes
		now, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		u.SetResourceVersion(now.GetResourceVersion()) // its status was written meanwhile
		if u, err = r.Update(ctx, u, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	if resource == "pods" {
		if u, err = r.UpdateStatus(ctx, u, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	o.SetUID(u.GetUID())
	o.SetResourceVersion(u.GetResourceVersion())
	o.SetGeneration(u.GetGeneration())
	if s, ok := o.(*corev1.Service); ok {
		s.Spec.ClusterIP, _, _ = unstructured.NestedString(u.Object, "spec", "clusterIP")
	}
	return nil
}

func (e *embedded) remove(resource string, o metav1.Object) error {
	r, err := e.of(resource, o.GetNamespace())
	if err != nil {
		return err
	}
	now := int64(0)
	err = r.Delete(context.Background(), o.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &now})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (e *embedded) all(resource string) ([][]byte, error) {
	r, err := e.of(resource, "")
	if err != nil {
		return nil, err
	}
	list, err := r.List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for i := range list.Items {
		raw, err := list.Items[i].MarshalJSON()
		if err != nil {
			return nil, err
		}
		out = append(out, raw)
	}
	return out, nil
}
