package deploy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"hasp/cluster"
)

// TestPermissions: the chart grants the control plane what package cluster says
// it uses, verb by verb, and nothing else.
func TestPermissions(t *testing.T) {
	objects := render(t, "")
	want := cluster.Permissions()
	for name, c := range map[string]struct{ got, want []rbacv1.PolicyRule }{
		"ClusterRole": {pick[*rbacv1.ClusterRole](t, objects, "ClusterRole", "istiod-istio-system").Rules, want.Cluster},
		"Role":        {pick[*rbacv1.Role](t, objects, "Role", "istiod").Rules, want.Namespace},
	} {
		if diff := cmp.Diff(grants(c.want), grants(c.got)); diff != "" {
			t.Errorf("%s: -used +granted\n%s", name, diff)
		}
	}
}

// grants are rules taken apart: "VERB GROUP/RESOURCE NAME".
func grants(rules []rbacv1.PolicyRule) []string {
	var out []string
	for _, r := range rules {
		names := r.ResourceNames
		if len(names) == 0 {
			names = []string{"*"}
		}
		for _, g := range r.APIGroups {
			for _, res := range r.Resources {
				for _, v := range r.Verbs {
					for _, n := range names {
						out = append(out, v+" "+g+"/"+res+" "+n)
					}
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestBindings: roles go to the accounts that pods run as; the gateway's account
// has none, and no token to use one with.
func TestBindings(t *testing.T) {
	objects := render(t, "cni: {enabled: true}")
	bound := map[string][]string{}
	for _, u := range objects {
		var role rbacv1.RoleRef
		var subjects []rbacv1.Subject
		switch b := typed(t, u).(type) {
		case *rbacv1.ClusterRoleBinding:
			role, subjects = b.RoleRef, b.Subjects
		case *rbacv1.RoleBinding:
			role, subjects = b.RoleRef, b.Subjects
		}
		for _, s := range subjects {
			bound[s.Namespace+"/"+s.Name] = append(bound[s.Namespace+"/"+s.Name], role.Kind+" "+role.Name)
		}
	}
	want := map[string][]string{
		"istio-system/istiod":   {"Role istiod", "ClusterRole istiod-istio-system"},
		"istio-system/hasp-cni": {"Role hasp-cni", "ClusterRole hasp-cni-istio-system"},
	}
	for k := range bound {
		slices.Sort(bound[k])
		slices.Sort(want[k])
	}
	if diff := cmp.Diff(want, bound); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for owner, p := range templates(t, objects) {
		account := pick[*corev1.ServiceAccount](t, objects, "ServiceAccount", p.Spec.ServiceAccountName)
		mayAsk := account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken
		if mayAsk != (len(bound["istio-system/"+account.Name]) > 0) {
			t.Errorf("%s: account %s mounts a token: %v", owner, account.Name, mayAsk)
		}
	}
}

// TestAudit: no rule is a wildcard, and what writes outside the release's
// namespace is on this list.
func TestAudit(t *testing.T) {
	allowed := []string{
		"create authentication.k8s.io/tokenreviews *",
		"create /configmaps *",
		"update /configmaps istio-ca-root-cert",
		"patch admissionregistration.k8s.io/mutatingwebhookconfigurations istio-sidecar-injector",
		"patch admissionregistration.k8s.io/validatingwebhookconfigurations istio-validator-istio-system",
	}
	for _, u := range render(t, "cni: {enabled: true}") {
		r, ok := typed(t, u).(*rbacv1.ClusterRole)
		if !ok {
			continue
		}
		for _, g := range grants(r.Rules) {
			verb, rest, _ := strings.Cut(g, " ")
			what, _, _ := strings.Cut(rest, " ")
			switch {
			case verb == "*" || strings.Contains(what, "*"):
				t.Errorf("%s grants %s", r.Name, g)
			case strings.HasSuffix(what, "/secrets"):
				t.Errorf("%s reads secrets everywhere: %s", r.Name, g)
			case slices.Contains([]string{"get", "list", "watch"}, verb), strings.HasSuffix(what, "/status"), slices.Contains(allowed, g):
			default:
				t.Errorf("%s grants %s", r.Name, g)
			}
		}
	}
}
