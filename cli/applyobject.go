package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/util/csaupgrade"
	"k8s.io/client-go/util/retry"

	"hasp/api"
	"hasp/mesh"
	"hasp/policy"
	"hasp/source"
	"hasp/world"
)

// manager is whom fields belong to that apply writes: kubectl's, so that kubectl
// goes on with them.
const manager = "kubectl"

// object is one of the manifests: what is wanted, and what was there before.
type object struct {
	manifest api.Object
	want     *unstructured.Unstructured
	resource schema.GroupVersionResource

	applied bool
	was     *unstructured.Unstructured // nil when it was not there
	is      *unstructured.Unstructured // as applied
}

func (o *object) String() string {
	return mesh.Origin{Kind: o.want.GetKind(), Namespace: o.want.GetNamespace(), Name: o.want.GetName()}.String()
}

// newObjects finds the resource and the namespace of each.
func newObjects(rc *rest.Config, manifests []api.Object, namespace string) ([]*object, error) {
	d, err := discovery.NewDiscoveryClientForConfig(rc)
	if err != nil {
		return nil, err
	}
	groups, err := restmapper.GetAPIGroupResources(d)
	if err != nil {
		return nil, fmt.Errorf("ask which kinds there are: %w", err)
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	var out []*object
	for _, m := range manifests {
		mapping, err := mapper.RESTMapping(m.GVK.GroupKind(), m.GVK.Version)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Where(""), err)
		}
		o := &object{manifest: m, want: m.Written(), resource: mapping.Resource}
		switch {
		case mapping.Scope.Name() != meta.RESTScopeNameNamespace:
			o.want.SetNamespace("")
		case o.want.GetNamespace() == "":
			o.want.SetNamespace(namespace)
		}
		if o.want.GetName() == "" {
			return nil, fmt.Errorf("%s: %s without a name: what has only generateName is new each time and cannot be taken back", m.Where("metadata"), m.GVK.Kind)
		}
		out = append(out, o)
	}
	return out, nil
}

// store is where objects are.
type store interface {
	get(ctx context.Context, o *object) (*unstructured.Unstructured, error) // nil when it is not there
	apply(ctx context.Context, o *object) (*unstructured.Unstructured, error)
	put(ctx context.Context, o *object, u *unstructured.Unstructured) error
	remove(ctx context.Context, o *object, uid types.UID) error
}

// apiServer is a store.
type apiServer struct{ client dynamic.Interface }

func (c *apiServer) of(o *object) dynamic.ResourceInterface {
	return c.client.Resource(o.resource).Namespace(o.want.GetNamespace())
}

func (c *apiServer) get(ctx context.Context, o *object) (*unstructured.Unstructured, error) {
	u, err := c.of(o).Get(ctx, o.want.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return u, err
}

// apply as kubectl apply --server-side does. What kubectl apply without it has
// written before becomes the same manager's, so that fields which are no longer
// in the manifest go.
func (c *apiServer) apply(ctx context.Context, o *object) (*unstructured.Unstructured, error) {
	if o.was != nil {
		if err := retry.RetryOnConflict(retry.DefaultRetry, func() error { return c.takeOver(ctx, o) }); err != nil {
			return nil, err
		}
		if err := c.keepLastApplied(ctx, o); err != nil {
			return nil, err
		}
	}
	return c.of(o).Apply(ctx, o.want.GetName(), o.want, metav1.ApplyOptions{FieldManager: manager, Force: true})
}

func (c *apiServer) takeOver(ctx context.Context, o *object) error {
	now, err := c.of(o).Get(ctx, o.want.GetName(), metav1.GetOptions{})
	if err != nil {
		return err
	}
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(now, sets.New("kubectl-client-side-apply", "kubectl-create", "kubectl-replace", "kubectl-edit"), manager)
	if err != nil || len(patch) == 0 {
		return err
	}
	_, err = c.of(o).Patch(ctx, o.want.GetName(), types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: manager})
	return err
}

// keepLastApplied has the annotation that kubectl apply goes by belong to nobody's
// manifest, so that it stays; the API server brings it up to date.
func (c *apiServer) keepLastApplied(ctx context.Context, o *object) error {
	last := o.was.GetAnnotations()[corev1.LastAppliedConfigAnnotation]
	if last == "" {
		return nil
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(o.want.GroupVersionKind())
	u.SetNamespace(o.want.GetNamespace())
	u.SetName(o.want.GetName())
	u.SetAnnotations(map[string]string{corev1.LastAppliedConfigAnnotation: last})
	_, err := c.of(o).Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: manager + "-last-applied", Force: true})
	return err
}

// put a state of an object over the one that is there.
func (c *apiServer) put(ctx context.Context, o *object, u *unstructured.Unstructured) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		now, err := c.of(o).Get(ctx, o.want.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		u.SetResourceVersion(now.GetResourceVersion())
		if now, err = c.of(o).Update(ctx, u, metav1.UpdateOptions{FieldManager: manager}); err != nil {
			return err
		}
		// Whose the fields are goes back too: an update alone makes them ours.
		patch, err := json.Marshal([]map[string]any{
			{"op": "replace", "path": "/metadata/managedFields", "value": u.GetManagedFields()},
			{"op": "replace", "path": "/metadata/resourceVersion", "value": now.GetResourceVersion()},
		})
		if err != nil {
			return err
		}
		_, err = c.of(o).Patch(ctx, o.want.GetName(), types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: manager})
		return err
	})
}

func (c *apiServer) remove(ctx context.Context, o *object, uid types.UID) error {
	err := c.of(o).Delete(ctx, o.want.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// apply the object and remember what was there.
func (o *object) apply(ctx context.Context, s store) error {
	var err error
	if o.was, err = s.get(ctx, o); err != nil {
		return fmt.Errorf("read %s: %w", o, err)
	}
	o.applied = true // perhaps, when it fails: then too it is looked at on the way back
	if o.is, err = s.apply(ctx, o); err != nil {
		return fmt.Errorf("apply %s: %w", o, err)
	}
	return nil
}

// restore what was there before, and say whether anything had to be done. What
// somebody else has changed meanwhile is left to him.
func (o *object) restore(ctx context.Context, s store) (did bool, err error) {
	if !o.applied {
		return false, nil
	}
	now, err := s.get(ctx, o)
	switch {
	case err != nil:
		return false, fmt.Errorf("restore %s: %w", o, err)
	case now == nil && o.was == nil:
		return false, nil
	case now == nil:
		return false, fmt.Errorf("restore %s: somebody deleted it meanwhile", o)
	case o.is != nil && !same(now, o.is):
		return false, fmt.Errorf("%s was changed by somebody else meanwhile and is left as it is", o)
	case o.was == nil:
		err = s.remove(ctx, o, now.GetUID())
	case same(now, o.was):
		return false, nil
	default:
		old := o.was.DeepCopy()
		old.SetResourceVersion(now.GetResourceVersion())
		err = s.put(ctx, o, old)
	}
	if err != nil {
		return true, fmt.Errorf("restore %s: %w", o, err)
	}
	o.applied = false
	return true, nil
}

// same reports whether two states of an object ask for the same.
func same(a, b *unstructured.Unstructured) bool {
	asks := func(u *unstructured.Unstructured) map[string]any {
		out := map[string]any{"labels": u.GetLabels(), "annotations": u.GetAnnotations(), "uid": u.GetUID()}
		for k, v := range u.Object {
			if k != "metadata" && k != "status" {
				out[k] = v
			}
		}
		return out
	}
	return reflect.DeepEqual(asks(a), asks(b))
}

// tellsStatus reports whether the control plane says in the object's status what
// became of it.
func (o *object) tellsStatus() bool {
	switch o.want.GetKind() {
	case "WorkloadEntry":
		return false
	}
	return strings.HasSuffix(o.resource.Group, ".istio.io")
}

// reconciled reads that status. An object that is refused fails at once.
func (o *object) reconciled(ctx context.Context, s store) (bool, error) {
	u, err := s.get(ctx, o)
	switch {
	case err != nil:
		return false, err
	case u == nil:
		return false, fmt.Errorf("somebody deleted %s meanwhile", o)
	}
	seen, _, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	if seen < u.GetGeneration() {
		return false, nil
	}
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		m, _ := c.(map[string]any)
		if m["type"] != "Reconciled" {
			continue
		}
		switch {
		case m["status"] == "True":
			return true, nil
		case m["reason"] == "Pending":
			return false, nil
		}
		return false, fmt.Errorf("%s: %v: %v", o, m["reason"], m["message"])
	}
	return false, nil
}

// The steps, in order.
const (
	moreFirst = iota
	clientsThen
	lessLast
	lessStep = "servers let in less"
)

// order is the step that an object belongs to.
func (o *object) order(read *source.Objects, namespace string) int {
	switch o.manifest.GVK.Kind {
	case "AuthorizationPolicy":
		return lessLast
	case "PeerAuthentication", "Policy", "MeshPolicy":
		before, _ := source.Build(read, "")
		next, _, err := read.Apply([]api.Object{o.manifest}, namespace, false, time.Now())
		if err != nil {
			return lessLast // it was validated; late is safe
		}
		after, _ := source.Build(next, "")
		if letsInLess(before, after) {
			return lessLast
		}
		return moreFirst
	}
	return clientsThen
}

// letsInLess reports whether some port of some workload takes less than before.
func letsInLess(before, after *world.World) bool {
	takes := func(m mesh.Mode) (plaintext, mutual bool) {
		switch m {
		case mesh.ModeDisable:
			return true, false
		case mesh.ModeUnset, mesh.ModePermissive:
			return true, true
		}
		return false, true
	}
	for _, wl := range after.Workloads {
		if wl.Role != mesh.RoleSidecar {
			continue
		}
		for _, port := range portsOf(before, after, wl) {
			p0, m0 := takes(policy.ServerMode(before, wl, port).Mode)
			p1, m1 := takes(policy.ServerMode(after, wl, port).Mode)
			if p0 && !p1 || m0 && !m1 {
				return true
			}
		}
	}
	return false
}

// portsOf a workload that an object may speak of, and 0 for all others.
func portsOf(before, after *world.World, wl *mesh.Workload) []uint16 {
	out := []uint16{0}
	for _, p := range wl.Ports {
		out = append(out, p.Number)
	}
	for _, w := range []*world.World{before, after} {
		for _, s := range w.ServicesOf(wl) {
			for _, sp := range s.Ports {
				if n, ok := sp.On(wl); ok {
					out = append(out, n)
				}
			}
		}
		for _, p := range w.PeerAuthentications {
			for n := range p.Spec.GetPortLevelMtls() {
				out = append(out, uint16(n))
			}
		}
	}
	return out
}

// rest is how to reach the API server of whatever mesh is meant.
func (e *env) rest(target clusterFlags) (*rest.Config, error) {
	foreign, err := e.elsewhere(&target)
	if err != nil {
		return nil, err
	}
	return e.restConfig(&question{target: target, given: true}, foreign)
}
