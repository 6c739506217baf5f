package local

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"

	"hasp/api"
)

// bringUp applies the application's manifests the first time, waits until
// everything runs and every proxy has its configuration, and reports ready.
func (d *daemon) bringUp(ctx context.Context) error {
	select {
	case <-d.control.Ready():
	case <-ctx.Done():
		return ctx.Err()
	}
	rc := d.api.RESTConfig()
	dyn, err := dynamic.NewForConfig(rc)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(rc)
	if err != nil {
		return err
	}
	if d.o.App != "" {
		d.step("starting the shared-boards app")
		a := applier{client: dyn, mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery())), project: d.o.Project}
		if err := a.app(ctx, d.o.App); err != nil {
			return err
		}
	}
	if err := d.available(ctx, client); err != nil {
		return err
	}
	d.step("waiting for the proxies")
	if err := d.control.Enforced(ctx, d.control.World().Generation); err != nil {
		return err
	}
	d.report.Encode(message{Ready: true})
	return nil
}

// appPatience is how long a start waits for the application: far longer than it
// takes, but not for ever, or one broken Deployment would keep the mesh down.
const appPatience = 30 * time.Second

// available waits until every Deployment has as many ready pods as it wants, or
// appPatience is over.
func (d *daemon) available(ctx context.Context, client kubernetes.Interface) error {
	select {
	case <-d.sandbox.Recovered():
	case <-ctx.Done():
		return ctx.Err()
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	patience := time.NewTimer(appPatience)
	defer patience.Stop()
	said := ""
	for {
		missing, err := unready(ctx, client)
		if err != nil {
			return err
		}
		if len(missing) == 0 {
			return nil
		}
		if s := "waiting for " + strings.Join(missing, ", "); s != said {
			said = s
			d.step(s)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			d.step("going on without " + strings.Join(missing, ", ") + "; kubectl get pods -A says why")
			d.log.Warn("deployments are not available", "names", missing)
			return nil
		case <-tick.C:
		}
	}
}

// unready are the Deployments with fewer ready pods than they want.
func unready(ctx context.Context, client kubernetes.Interface) ([]string, error) {
	deployments, err := client.AppsV1().Deployments("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	pods, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	ready := map[types.UID]int32{} // by owner
	for i := range pods.Items {
		p := &pods.Items[i]
		owner := metav1.GetControllerOf(p)
		if owner == nil || p.DeletionTimestamp != nil {
			continue
		}
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				ready[owner.UID]++
			}
		}
	}
	var missing []string
	for _, dep := range deployments.Items {
		want := int32(1)
		if dep.Spec.Replicas != nil {
			want = *dep.Spec.Replicas
		}
		if ready[dep.UID] < want {
			missing = append(missing, dep.Name)
		}
	}
	return missing, nil
}

// appliedMark is the ConfigMap that remembers a project whose manifests were
// applied, so that a restart does not bring back what the user deleted.
const appliedMark = "hasp-demo"

// applier creates objects in the API.
type applier struct {
	client  dynamic.Interface
	mapper  meta.RESTMapper
	project string // namespace of objects that name none
}

// app creates the objects of the demo directory that are not there yet:
// the mesh's settings and the gateway, then the application in the project's
// namespace.
func (a applier) app(ctx context.Context, dir string) error {
	maps := a.client.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(a.project)
	if _, err := maps.Get(ctx, appliedMark, metav1.GetOptions{}); err == nil {
		return nil
	}
	files, err := appFiles(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return fmt.Errorf("read the app's manifests: %w", err)
		}
		objects, err := api.Decode(f, []byte(strings.ReplaceAll(string(data), "microservices-demo", a.project)))
		if err != nil {
			return err
		}
		for _, o := range objects {
			if err := a.create(ctx, o); err != nil {
				return err
			}
		}
	}
	mark := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": appliedMark},
		"data": map[string]any{"applied": "The demo's manifests were applied once; delete this to have them applied at the next start."},
	}}
	_, err = maps.Create(ctx, mark, metav1.CreateOptions{FieldManager: "hasp"})
	return ignoreExists(err)
}

// appFiles in the order they are applied.
func appFiles(dir string) ([]string, error) {
	files := []string{"mesh.yaml", "gateway.yaml", "istio-configuration/ingress-gateway.yaml", "istio-configuration/destinationrules-all.yaml"}
	apps, err := fs.Glob(os.DirFS(dir), "app/*.yaml")
	if err != nil {
		return nil, err
	}
	if len(apps) == 0 {
		return nil, fmt.Errorf("there are no manifests of the demo app in %s; give its directory, or none, with --app", dir)
	}
	slices.Sort(apps)
	var out []string
	for _, f := range append(files, apps...) {
		out = append(out, filepath.Join(dir, f))
	}
	return out, nil
}

func (a applier) create(ctx context.Context, o api.Object) error {
	u := &unstructured.Unstructured{}
	var err error
	u.Object, err = runtime.DefaultUnstructuredConverter.ToUnstructured(o.Value)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Where(""), err)
	}
	u.SetGroupVersionKind(o.GVK)
	unstructured.RemoveNestedField(u.Object, "status")
	mapping, err := a.mapper.RESTMapping(o.GVK.GroupKind(), o.GVK.Version)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Where(""), err)
	}
	var r dynamic.ResourceInterface = a.client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		ns := cmp.Or(u.GetNamespace(), a.project)
		u.SetNamespace(ns)
		r = a.client.Resource(mapping.Resource).Namespace(ns)
	}
	_, err = r.Create(ctx, u, metav1.CreateOptions{FieldManager: "hasp"})
	if err = ignoreExists(err); err != nil {
		return fmt.Errorf("%s: %w", o.Where(""), err)
	}
	return nil
}

func ignoreExists(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
