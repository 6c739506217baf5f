package sandbox

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
)

// deployments is the controller of Deployments. It makes Pods itself, without
// ReplicaSets between: there is no history to roll back to.
type deployments struct {
	client kubernetes.Interface
	watch  *watch
	log    *slog.Logger
	// sidecar says whether a pod is to get one.
	sidecar func(*corev1.Pod) (bool, error)
	// expected are the pods made that the cache has not shown yet, by the
	// Deployment that waits for them.
	expected map[types.UID]map[string]time.Time
}

func newDeployments(s *Sandbox, w *watch) deployments {
	return deployments{
		client: s.cfg.Client, watch: w, log: s.log, expected: map[types.UID]map[string]time.Time{},
		sidecar: func(p *corev1.Pod) (bool, error) { return s.wantsSidecar(w, p) },
	}
}

// cacheLag is how long a pod that was made is waited for in the cache.
const cacheLag = 5 * time.Second

// run compares Deployments with their Pods, whenever one changed, until ctx
// ends.
func (d deployments) run(ctx context.Context) error {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.watch.deploymentChanged:
		case <-retry.C:
		}
		all, err := d.watch.deployments.List(labels.Everything())
		if err != nil {
			return fmt.Errorf("sandbox: list deployments: %w", err)
		}
		pods, err := d.watch.pods.List(labels.Everything())
		if err != nil {
			return fmt.Errorf("sandbox: list pods: %w", err)
		}
		for _, dep := range all {
			if err := d.sync(ctx, dep, pods); err != nil && ctx.Err() == nil {
				d.log.Warn("deployment not brought up to date", "deployment", dep.Namespace+"/"+dep.Name, "err", err)
				retry.Reset(time.Second)
			}
		}
		if err := d.collect(ctx, all, pods); err != nil && ctx.Err() == nil {
			d.log.Warn("orphaned pod not deleted", "err", err)
			retry.Reset(time.Second)
		}
	}
}

// sync makes one step: what is to be made and deleted now. The changes that
// follow from it lead to the next.
func (d deployments) sync(ctx context.Context, dep *appsv1.Deployment, all []*corev1.Pod) error {
	pods := owned(dep, all)
	if d.behind(dep, pods) {
		return nil // else the same pods would be made twice
	}
	step := rollout(dep, pods)
	client := d.client.CoreV1().Pods(dep.Namespace)
	for range step.create {
		pod := newPodOf(dep)
		if wants, err := d.sidecar(pod); err != nil {
			return err
		} else if wants && !hasSidecar(pod) {
			inject(pod)
		}
		if _, err := client.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			return err
		}
		d.expect(dep, pod.Name)
	}
	for _, p := range step.remove {
		err := client.Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return err
		}
	}
	return d.writeStatus(ctx, dep, pods)
}

// expect a pod in the cache.
func (d deployments) expect(dep *appsv1.Deployment, name string) {
	if d.expected[dep.UID] == nil {
		d.expected[dep.UID] = map[string]time.Time{}
	}
	d.expected[dep.UID][name] = time.Now()
}

// behind reports whether the cache does not show yet what was made.
func (d deployments) behind(dep *appsv1.Deployment, pods []*corev1.Pod) bool {
	waiting := d.expected[dep.UID]
	for _, p := range pods {
		delete(waiting, p.Name)
	}
	for name, since := range waiting {
		if time.Since(since) > cacheLag { // made and deleted in between
			delete(waiting, name)
		}
	}
	if len(waiting) == 0 {
		delete(d.expected, dep.UID)
	}
	return len(waiting) > 0
}

// collect deletes pods whose Deployment is gone: there is no garbage collector.
func (d deployments) collect(ctx context.Context, all []*appsv1.Deployment, pods []*corev1.Pod) error {
	for _, p := range pods {
		owner := metav1.GetControllerOf(p)
		if owner == nil || owner.Kind != "Deployment" || p.DeletionTimestamp != nil {
			continue
		}
		if slices.ContainsFunc(all, func(dep *appsv1.Deployment) bool { return dep.UID == owner.UID }) {
			continue
		}
		// The cache of Deployments may be behind that of Pods.
		dep, err := d.client.AppsV1().Deployments(p.Namespace).Get(ctx, owner.Name, metav1.GetOptions{})
		if err == nil && dep.UID == owner.UID || err != nil && !apierrors.IsNotFound(err) {
			continue
		}
		err = d.client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return err
		}
	}
	return nil
}

func owned(dep *appsv1.Deployment, all []*corev1.Pod) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range all {
		if owner := metav1.GetControllerOf(p); owner != nil && owner.UID == dep.UID {
			out = append(out, p)
		}
	}
	// A fixed order, so that asking twice names the same pods: oldest first.
	slices.SortFunc(out, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// hashLabel tells the pods of one template from those of another.
const hashLabel = appsv1.DefaultDeploymentUniqueLabelKey

func templateHash(dep *appsv1.Deployment) string {
	b, err := json.Marshal(dep.Spec.Template)
	if err != nil { // it came as JSON
		return ""
	}
	h := fnv.New32a()
	h.Write(b)
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}

func newPodOf(dep *appsv1.Deployment) *corev1.Pod {
	prefix := dep.Name + "-" + templateHash(dep) + "-"
	t := dep.Spec.Template
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: prefix + rand.String(5), GenerateName: prefix, Namespace: dep.Namespace,
			Labels: maps.Clone(t.Labels), Annotations: maps.Clone(t.Annotations),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(dep, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
		},
		Spec: *t.Spec.DeepCopy(),
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[hashLabel] = templateHash(dep)
	return pod
}
