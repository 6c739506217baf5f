package check

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hasp/api"
	"hasp/cluster"
	"hasp/deploy"
)

// aboutInstallation is whether what is installed works.
func (c *checker) aboutInstallation() []question {
	const section = "control plane"
	return []question{
		{section, "the definitions are established and of this version", c.askDefinitions},
		{section, "all replicas are ready", c.askReplicas},
		{section, "its version is that of this program", c.askSkew},
		{section, "one replica leads", c.askLeader},
		{section, "each replica serves, and refused no object", c.askStatus},
		{section, "the signing certificate is valid", c.askAuthority},
		{section, "every namespace has the roots", c.askRoots},
		{section, "the API server trusts the webhooks", c.askTrust},
		{section, "the API server reaches the webhook that checks objects", c.askValidation},
		{section, "the CNI plugin runs on every node", c.askCNI},
	}
}

func (c *checker) askDefinitions(ctx context.Context) Result {
	want, err := api.CRDs()
	if err != nil {
		return failed(err, "")
	}
	crds := c.Dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	var wrong []string
	for _, w := range want {
		u, err := crds.Get(ctx, w.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			wrong = append(wrong, w.Name+" is missing")
			continue
		}
		if err != nil {
			return failed(err, "")
		}
		have := &apiextensionsv1.CustomResourceDefinition{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, have); err != nil {
			return failed(err, "")
		}
		established := slices.ContainsFunc(have.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
			return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
		})
		switch {
		case !established:
			wrong = append(wrong, w.Name+" is not established")
		case !reflect.DeepEqual(have.Spec.Versions, w.Spec.Versions):
			wrong = append(wrong, w.Name+" is of another version")
		}
	}
	if len(wrong) > 0 {
		return fail(listed(wrong), "hasp install or helm upgrade brings this version's; Istio's own may be in their place")
	}
	return ok(fmt.Sprintf("%d kinds", len(want)))
}

func (c *checker) deployment(ctx context.Context, name string) (*appsv1.Deployment, error) {
	return c.Client.AppsV1().Deployments(deploy.Namespace).Get(ctx, name, metav1.GetOptions{})
}

func (c *checker) askReplicas(ctx context.Context) Result {
	const hint = "kubectl -n istio-system describe pods -l app=istiod; kubectl -n istio-system logs -l app=istiod"
	d, err := c.deployment(ctx, "istiod")
	if err != nil {
		return failed(err, "")
	}
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	detail := fmt.Sprintf("%d of %d", d.Status.ReadyReplicas, want)
	switch {
	case want == 0:
		return fail("0 are wanted", "kubectl -n istio-system scale deployment istiod --replicas=2")
	case d.Status.ReadyReplicas == 0:
		return fail(detail, hint)
	case d.Status.ReadyReplicas < want:
		return warn(detail, hint)
	case want == 1:
		return warn(detail+": while it restarts nothing changes and no pod of the mesh starts", "set controlPlane.replicas to 2")
	}
	return ok(detail)
}

func (c *checker) askSkew(context.Context) Result {
	if c.installed.Version != c.Version {
		return warn(fmt.Sprintf("it is %s, this program %s", c.installed.Version, c.Version), "use the hasp of the control plane's version, or upgrade")
	}
	return ok("it is " + c.Version)
}

func (c *checker) askLeader(ctx context.Context) Result {
	lease, err := c.Client.CoordinationV1().Leases(deploy.Namespace).Get(ctx, cluster.Lease, metav1.GetOptions{})
	if err != nil {
		return failed(err, "without a leader no status is written and no new namespace gets the roots")
	}
	s := lease.Spec
	if s.HolderIdentity == nil || *s.HolderIdentity == "" || s.RenewTime == nil || s.LeaseDurationSeconds == nil {
		return fail("nobody holds lease "+cluster.Lease, "kubectl -n istio-system logs -l app=istiod")
	}
	// Clocks differ; one that is far behind is none.
	if age := time.Since(s.RenewTime.Time); age > 4*time.Duration(*s.LeaseDurationSeconds)*time.Second {
		return fail(fmt.Sprintf("%s renewed lease %s %s ago", *s.HolderIdentity, cluster.Lease, age.Round(time.Second)), "kubectl -n istio-system logs -l app=istiod")
	}
	return ok(*s.HolderIdentity)
}

// askStatus asks every replica itself.
func (c *checker) askStatus(ctx context.Context) Result {
	pods, err := c.controlPlanePods(ctx)
	if err != nil {
		return failed(err, "")
	}
	if len(pods) == 0 {
		return c.askWaiting(ctx)
	}
	problems := map[string]bool{}
	for _, p := range pods {
		s, err := c.ControlPlane(ctx, p)
		if err != nil {
			return failed(err, "kubectl -n istio-system logs "+p)
		}
		for _, text := range s.Control.Problems {
			problems[text] = true
		}
	}
	if len(problems) > 0 {
		var list []string
		for text := range problems {
			list = append(list, text)
		}
		slices.Sort(list)
		return warn(listed(list), "these parts of objects have no effect")
	}
	return ok(listed(pods))
}

// controlPlanePods that are ready.
func (c *checker) controlPlanePods(ctx context.Context) ([]string, error) {
	return c.istiodPods(ctx, ready)
}

// askWaiting asks a replica that runs and is not ready what it waits for.
func (c *checker) askWaiting(ctx context.Context) Result {
	pods, err := c.istiodPods(ctx, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil })
	if err != nil {
		return failed(err, "")
	}
	for _, p := range pods {
		if _, err := c.ControlPlane(ctx, p); err != nil {
			return failed(err, "kubectl -n istio-system logs "+p)
		}
	}
	return fail("there is none that is ready", "kubectl -n istio-system describe deployment istiod")
}

func (c *checker) istiodPods(ctx context.Context, wanted func(*corev1.Pod) bool) ([]string, error) {
	pods, err := c.Client.CoreV1().Pods(deploy.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=istiod"})
	if err != nil {
		return nil, err
	}
	var out []string
	for i := range pods.Items {
		if wanted(&pods.Items[i]) {
			out = append(out, pods.Items[i].Name)
		}
	}
	return out, nil
}

// askCNI: with capture from the node, a node without the plugin starts no pod.
func (c *checker) askCNI(ctx context.Context) Result {
	d, err := c.Client.AppsV1().DaemonSets(deploy.Namespace).Get(ctx, "hasp-cni-node", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return Result{}
	}
	if err != nil {
		return failed(err, "")
	}
	detail := fmt.Sprintf("%d of %d", d.Status.NumberReady, d.Status.DesiredNumberScheduled)
	if d.Status.NumberReady < d.Status.DesiredNumberScheduled {
		return fail(detail, "pods of the mesh do not start on the others; kubectl -n istio-system describe pods -l app=hasp-cni-node")
	}
	return ok(detail)
}
