package check

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/api"
	"hasp/deploy"
	"hasp/inject"
)

// aboutPods is whether the mesh's pods are in it.
func (c *checker) aboutPods() []question {
	const section = "data plane"
	return []question{
		{section, "a pod that asks for a sidecar gets one", c.askInjection},
		{section, "every pod that asks has its sidecar", c.askSidecars},
		{section, "sidecars and gateways are ready", c.askReady},
		{section, "sidecars and gateways are connected and took their configuration", c.askProxies},
		{section, "sidecars are of the control plane's version", c.askImages},
	}
}

// running are the pods that have not ended.
func (c *checker) running(ctx context.Context) ([]corev1.Pod, error) {
	pods, err := c.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || p.DeletionTimestamp != nil
	}), nil
}

// proxyOf is the container of a pod's proxy, or nil.
func proxyOf(p *corev1.Pod) *corev1.Container {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if list[i].Name == api.ProxyContainer {
				return &list[i]
			}
		}
	}
	return nil
}

// askSidecars finds pods that were there before their namespace was labelled.
func (c *checker) askSidecars(ctx context.Context) Result {
	namespaces, err := c.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return failed(err, "")
	}
	labels := map[string]map[string]string{}
	for _, ns := range namespaces.Items {
		labels[ns.Name] = ns.Labels
	}
	pods, err := c.running(ctx)
	if err != nil {
		return failed(err, "")
	}
	var without []string
	asked := 0
	for i := range pods {
		p := &pods[i]
		if system(p.Namespace) || p.Spec.HostNetwork || !api.Injected(p.Annotations, p.Labels, labels[p.Namespace]) {
			continue
		}
		asked++
		if proxyOf(p) == nil {
			without = append(without, p.Namespace+"/"+p.Name)
		}
	}
	if len(without) > 0 {
		return warn("not "+listed(without), "restart what made them: kubectl rollout restart -n NAMESPACE deployment")
	}
	return ok(fmt.Sprintf("%d pods", asked))
}

func (c *checker) askReady(ctx context.Context) Result {
	pods, err := c.running(ctx)
	if err != nil {
		return failed(err, "")
	}
	var not []string
	proxies := 0
	for i := range pods {
		p := &pods[i]
		if proxyOf(p) == nil {
			continue
		}
		proxies++
		if !proxyReady(p) {
			not = append(not, p.Namespace+"/"+p.Name)
		}
	}
	if len(not) > 0 {
		return warn("not "+listed(not), "kubectl logs -n NAMESPACE POD -c istio-proxy says what it waits for")
	}
	return ok(fmt.Sprintf("%d proxies", proxies))
}

func proxyReady(p *corev1.Pod) bool {
	for _, s := range append(slices.Clone(p.Status.InitContainerStatuses), p.Status.ContainerStatuses...) {
		if s.Name == api.ProxyContainer {
			return s.Ready
		}
	}
	return false
}

// ready is the pod's own condition.
func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// askProxies compares the pods that have a ready proxy with what the replicas of
// the control plane say of those connected to them.
func (c *checker) askProxies(ctx context.Context) Result {
	replicas, err := c.controlPlanePods(ctx)
	if err != nil {
		return failed(err, "")
	}
	state := map[string]string{}
	for _, r := range replicas {
		s, err := c.ControlPlane(ctx, r)
		if err != nil {
			return failed(err, "")
		}
		for _, p := range s.Control.Proxies {
			switch {
			case !p.Connected: // it may have gone over to another replica
			case p.Nack != nil && p.Nack.Generation >= p.AckedGeneration:
				state[p.Node] = "refused its configuration: " + p.Nack.Message
			default:
				state[p.Node] = "connected"
			}
		}
	}
	pods, err := c.running(ctx)
	if err != nil {
		return failed(err, "")
	}
	var wrong []string
	proxies := 0
	for i := range pods {
		p := &pods[i]
		if proxyOf(p) == nil || !proxyReady(p) {
			continue
		}
		proxies++
		switch s := state[p.Namespace+"/"+p.Name]; s {
		case "connected":
		case "":
			wrong = append(wrong, p.Namespace+"/"+p.Name+" is not connected")
		default:
			wrong = append(wrong, p.Namespace+"/"+p.Name+" "+s)
		}
	}
	if len(wrong) > 0 {
		return fail(listed(wrong), "it goes on with its last configuration; kubectl logs -n NAMESPACE POD -c istio-proxy")
	}
	return ok(fmt.Sprintf("%d proxies", proxies))
}

// askImages: a sidecar stays as it was injected until its pod is restarted.
func (c *checker) askImages(ctx context.Context) Result {
	want, err := c.proxyImage(ctx)
	if err != nil {
		return failed(err, "")
	}
	pods, err := c.running(ctx)
	if err != nil {
		return failed(err, "")
	}
	var old []string
	for i := range pods {
		p := &pods[i]
		if c := proxyOf(p); c != nil && p.Annotations[api.InjectStatusKey] != "" && c.Image != want && p.Annotations["sidecar.istio.io/proxyImage"] == "" {
			old = append(old, p.Namespace+"/"+p.Name)
		}
	}
	if len(old) > 0 {
		return warn("not "+listed(old), "restart what made them; new ones get "+want)
	}
	return ok(want)
}

// proxyImage is what new pods get.
func (c *checker) proxyImage(ctx context.Context) (string, error) {
	m, err := c.Client.CoreV1().ConfigMaps(deploy.Namespace).Get(ctx, inject.ConfigMapName, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	cfg, err := inject.ParseConfig(inject.ConfigMapName, []byte(m.Data[inject.ConfigMapKey]))
	return cfg.Image, err
}
