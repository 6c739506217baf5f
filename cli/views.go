package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"hasp/dashboard"
	"hasp/deploy"
	"hasp/local"
)

// viewClient asks a running control plane for its views of the facts. Close it.
type viewClient struct {
	*dashboard.Remote
	stop func()
}

// views of the mesh that a question is about: the cluster of the flags, else of
// KUBECONFIG, else the mesh on this machine, else the cluster of kubectl's usual
// kubeconfig. ctx is that of all questions.
func views(ctx context.Context, e *env, target *clusterFlags) (*viewClient, error) {
	if target.named() || e.foreignKubeconfig() {
		return clusterViews(ctx, e, target)
	}
	dir := absolute(e.Dir, e.state)
	switch _, err := local.Find(dir); {
	case errors.Is(err, local.ErrNotRunning) && e.Config.Kubeconfig == "" && e.kubectlsOwn() != "":
		return clusterViews(ctx, e, target)
	case errors.Is(err, local.ErrNotRunning):
		return nil, fmt.Errorf("%w; for a cluster set KUBECONFIG or give --kubeconfig", err)
	case err != nil:
		return nil, err
	}
	return &viewClient{&dashboard.Remote{Name: "the mesh in " + dir, Base: "http://admin", Client: local.Admin(dir)}, func() {}}, nil
}

// clusterViews are those of one replica that is ready: each knows what all
// proxies report.
func clusterViews(ctx context.Context, e *env, target *clusterFlags) (*viewClient, error) {
	rc, err := target.config(e)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(rc)
	if err != nil {
		return nil, err
	}
	pods, err := client.CoreV1().Pods(deploy.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=istiod"})
	if err != nil {
		return nil, fmt.Errorf("list the control plane's pods: %w", err)
	}
	var failures []error
	for _, p := range pods.Items {
		if p.DeletionTimestamp != nil || !podReady(&p) {
			continue
		}
		address, stop, err := openForward(ctx, rc, deploy.Namespace, p.Name, adminPort)
		if err != nil {
			failures = append(failures, fmt.Errorf("forward a port of pod %s/%s: %w", deploy.Namespace, p.Name, err))
			continue
		}
		return &viewClient{&dashboard.Remote{
			Name: "pod " + deploy.Namespace + "/" + p.Name, Base: "http://" + address,
			Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		}, stop}, nil
	}
	if len(failures) > 0 {
		return nil, errors.Join(failures...)
	}
	return nil, fmt.Errorf("no control plane is ready in %s of %s; hasp check says what is wrong, hasp install installs one", deploy.Namespace, rc.Host)
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// Close gives back what the questions needed.
func (v *viewClient) Close() { v.stop() }
