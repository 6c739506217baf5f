package check

import (
	"context"
	"fmt"
	"slices"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/api"
	"hasp/deploy"
)

// aboutInstalling is what must hold for an installation to work.
func (c *checker) aboutInstalling() []question {
	const section = "before installing"
	return []question{
		{section, "no other control plane is in the way", c.askOther},
		{section, "no other's definitions are there", c.askDefinitionsOfOthers},
		{section, "you may create what hasp installs", c.askPermissions},
		{section, "the API server takes every object", c.askDryRun},
		{section, "the values suit the platform", c.askPlatform},
		{section, "pods may capture their connections", c.askCapture},
	}
}

func (c *checker) askOther(context.Context) Result {
	switch c.installed.By {
	case "":
		return ok("")
	case deploy.ByOther:
		return failed(c.installed.Refusal(), "")
	}
	return ok(fmt.Sprintf("hasp %s is installed, by %s", c.installed.Version, c.installed.By))
}

// askDefinitionsOfOthers finds CRDs that Istio left, which stay in use.
func (c *checker) askDefinitionsOfOthers(ctx context.Context) Result {
	var theirs []string
	for _, u := range c.Objects {
		if u.GetKind() != "CustomResourceDefinition" {
			continue
		}
		r, err := deploy.Resource(u)
		if err != nil {
			return failed(err, "")
		}
		have, err := c.Dynamic.Resource(r).Get(ctx, u.GetName(), metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return failed(err, "")
		case have.GetLabels()[deploy.PartOfLabel] != "hasp":
			theirs = append(theirs, u.GetName())
		}
	}
	if len(theirs) > 0 {
		return warn(listed(theirs), "hasp install takes them over, with their objects; with Helm add --take-ownership, or --set crds.install=false to leave them")
	}
	return ok("")
}

// askPermissions asks for each kind of the installation whether the user may
// create and change it.
func (c *checker) askPermissions(ctx context.Context) Result {
	asked := map[authorizationv1.ResourceAttributes]bool{}
	var missing []string
	for _, u := range c.Objects {
		resource, err := deploy.Resource(u)
		if err != nil {
			return failed(err, "")
		}
		for _, verb := range []string{"get", "list", "create", "patch", "delete"} {
			a := authorizationv1.ResourceAttributes{Verb: verb, Group: resource.Group, Resource: resource.Resource, Namespace: u.GetNamespace()}
			if asked[a] {
				continue
			}
			asked[a] = true
			review, err := c.Client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx,
				&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &a}}, metav1.CreateOptions{})
			if err != nil {
				return failed(err, "")
			}
			if !review.Status.Allowed {
				missing = append(missing, verb+" "+resource.GroupResource().String())
			}
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fail("you may not "+listed(slices.Compact(missing)), "install as a cluster administrator")
	}
	return ok(fmt.Sprintf("%d permissions asked for", len(asked)))
}

// askDryRun lets the API server admit every object without keeping it.
func (c *checker) askDryRun(ctx context.Context) Result {
	dry := &deploy.Cluster{Client: c.Dynamic}
	if err := dry.Install(ctx, c.Objects, true); err != nil {
		return failed(err, "")
	}
	return ok(fmt.Sprintf("%d objects", len(c.Objects)))
}

// onOpenShift: the cluster serves SecurityContextConstraints.
func (c *checker) onOpenShift() (bool, error) {
	groups, err := c.Client.Discovery().ServerGroups()
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == "security.openshift.io" }), nil
}

// withCNI: the installation captures from the node.
func (c *checker) withCNI() bool {
	for _, u := range c.Objects {
		if u.GetKind() == "DaemonSet" {
			return true
		}
	}
	return false
}

func (c *checker) askPlatform(context.Context) Result {
	openshift, err := c.onOpenShift()
	switch {
	case err != nil:
		return failed(err, "")
	case openshift && !c.withCNI():
		return fail("this is OpenShift, where pods may not have NET_ADMIN", "install with -f deploy/hasp/values-openshift.yaml")
	case openshift:
		return ok("OpenShift, with capture by the CNI plugin")
	}
	return ok("Kubernetes")
}

// askCapture lets the API server admit, in each namespace of the mesh, a pod
// whose init container has NET_ADMIN. Without the CNI plugin it must.
func (c *checker) askCapture(ctx context.Context) Result {
	if c.withCNI() {
		return ok("the CNI plugin captures; pods need no capability")
	}
	namespaces, err := c.meshNamespaces(ctx)
	if err != nil {
		return failed(err, "")
	}
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceDefault}
	}
	var refused []string
	for _, ns := range namespaces {
		_, err := c.Client.CoreV1().Pods(ns).Create(ctx, capturingPod(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if apierrors.IsForbidden(err) {
			refused = append(refused, ns)
		}
	}
	if len(refused) > 0 {
		return fail("pods with NET_ADMIN are forbidden in "+listed(refused),
			"install with --set cni.enabled=true, or label these namespaces pod-security.kubernetes.io/enforce=privileged")
	}
	return ok("pods with NET_ADMIN are admitted in " + listed(namespaces))
}

// capturingPod has an init container as the injector makes it. It opts out of
// injection, so that nobody but the API server judges it.
func capturingPod() *corev1.Pod {
	p := modestPod("false")
	init := p.Spec.Containers[0]
	init.Name, init.SecurityContext = api.InitContainer, init.SecurityContext.DeepCopy()
	init.SecurityContext.Capabilities.Add = []corev1.Capability{"NET_ADMIN"}
	p.Spec.InitContainers = []corev1.Container{init}
	return p
}

// modestPod is one that every namespace admits (Pod Security's "restricted"),
// with its word about injection. It is for dry runs: it would not start.
func modestPod(inject string) *corev1.Pod {
	yes, no := true, false
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "hasp-check-", Labels: map[string]string{api.InjectKey: inject}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "app", Image: "hasp/check", SecurityContext: &corev1.SecurityContext{
				RunAsNonRoot: &yes, AllowPrivilegeEscalation: &no,
				Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
		}}},
	}
}
