package cluster

import (
	rbac "k8s.io/api/rbac/v1"

	"hasp/api"
	"hasp/control"
	"hasp/source"
)

// Grants are the rules of the control plane's roles.
type Grants struct {
	Cluster   []rbac.PolicyRule // of a ClusterRole
	Namespace []rbac.PolicyRule // of a Role in the control plane's namespace
}

// Permissions is all that the control plane's ServiceAccount needs. The chart
// has the same rules, which a test holds together. The tests against a real API
// server run the control plane with no more, and find every one of them used.
//
// Secrets are granted in the control plane's own namespace only. Two rules are
// wider than their use, because Kubernetes cannot restrict a creation by name:
// ConfigMaps may be created anywhere (only istio-ca-root-cert is), Secrets in
// our namespace.
func Permissions() Grants {
	watch := []string{"list", "watch"}
	g := Grants{}
	for _, r := range source.Resources() {
		rule := rule(r.Group, []string{r.Resource}, watch)
		if r.Group == "" && (r.Resource == "secrets" || r.Resource == "configmaps") {
			g.Namespace = append(g.Namespace, rule)
			continue
		}
		g.Cluster = append(g.Cluster, rule)
	}
	for _, r := range control.StatusResources() {
		g.Cluster = append(g.Cluster, rule(r.Group, []string{r.Resource + "/status"}, []string{"patch"}))
	}
	const hooks = "admissionregistration.k8s.io"
	g.Cluster = append(g.Cluster,
		rule("", []string{"namespaces"}, []string{"get"}),
		rule("authentication.k8s.io", []string{"tokenreviews"}, []string{"create"}),
		rule("", []string{"configmaps"}, []string{"create"}),
		// A list or watch of one name is granted by that name.
		rule("", []string{"configmaps"}, []string{"list", "watch", "update"}, RootsConfigMap),
		rule(hooks, []string{"mutatingwebhookconfigurations"}, []string{"list", "watch", "patch"}, MutatingWebhooks),
		rule(hooks, []string{"validatingwebhookconfigurations"}, []string{"list", "watch", "patch"}, ValidatingWebhooks),
	)
	g.Namespace = append(g.Namespace,
		rule("", []string{"configmaps"}, []string{"get"}, api.MeshConfigName),
		rule("", []string{"secrets"}, []string{"create"}),
		rule("", []string{"secrets"}, []string{"get"}, GivenSecret, OwnSecret, WebhookSecret),
		rule("", []string{"secrets"}, []string{"update"}, OwnSecret, WebhookSecret),
		rule("coordination.k8s.io", []string{"leases"}, []string{"create"}),
		rule("coordination.k8s.io", []string{"leases"}, []string{"get", "update"}, Lease),
		rule("", []string{"events"}, []string{"create"}),
	)
	return g
}

func rule(group string, resources, verbs []string, names ...string) rbac.PolicyRule {
	return rbac.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs, ResourceNames: names}
}
