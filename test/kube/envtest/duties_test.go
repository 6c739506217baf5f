package envtest_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"hasp/cluster"
)

// rootsIn is what a namespace's pods verify the control plane with.
func rootsIn(t *testing.T, namespace string) (string, error) {
	t.Helper()
	m, err := env.client.CoreV1().ConfigMaps(namespace).Get(t.Context(), cluster.RootsConfigMap, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	return m.Data[cluster.RootsKey], nil
}

func haveRoots(t *testing.T, namespace, roots string) {
	t.Helper()
	eventually(t, namespace+" has the roots", func() (bool, error) {
		got, err := rootsIn(t, namespace)
		return got == roots, err
	})
}

// Every namespace has the roots: those that were there, new ones at once, and
// again where somebody edited or deleted them.
func TestRootsInEveryNamespace(t *testing.T) {
	need(t)
	forget(t)
	begin(t, "a", nil).ready(t).leads(t)
	roots := string(secret(t, cluster.OwnSecret).Data["root-cert.pem"])
	for _, n := range []string{"default", "kube-system", cluster.Namespace} {
		haveRoots(t, n, roots)
	}
	namespace(t, "roots", nil)
	haveRoots(t, "roots", roots)
	maps := env.client.CoreV1().ConfigMaps("roots")
	if _, err := maps.Patch(t.Context(), cluster.RootsConfigMap, types.MergePatchType, []byte(`{"data":{"root-cert.pem":"mine","more":"x"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the edit is undone", func() (bool, error) {
		m, err := maps.Get(t.Context(), cluster.RootsConfigMap, metav1.GetOptions{})
		return err == nil && len(m.Data) == 1 && m.Data[cluster.RootsKey] == roots, err
	})
	if err := maps.Delete(t.Context(), cluster.RootsConfigMap, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	haveRoots(t, "roots", roots)
}

// When the leader stops, another replica has its duties at once: the lease is
// given up, not waited out.
func TestLeaderStops(t *testing.T) {
	need(t)
	forget(t)
	a := begin(t, "a", nil).ready(t).leads(t)
	b := begin(t, "b", nil).ready(t)
	eventually(t, "b knows who leads", func() (bool, error) { return b.status(t).Leader == "a", nil })
	a.end(t)
	b.leads(t)
	namespace(t, "after", nil)
	haveRoots(t, "after", string(secret(t, cluster.OwnSecret).Data["root-cert.pem"]))
}

// The statuses of objects are the leader's to write.
func TestStatusOfObjects(t *testing.T) {
	need(t)
	forget(t)
	begin(t, "a", nil).ready(t).leads(t).serve(t)
	namespace(t, "status", nil)
	for kind, text := range map[string]string{
		"policies.authentication.istio.io":        "apiVersion: authentication.istio.io/v1alpha1\nkind: Policy\nmetadata: {name: default}\nspec: {peers: [{mtls: {}}]}\n",
		"meshpolicies.authentication.istio.io":    "apiVersion: authentication.istio.io/v1alpha1\nkind: MeshPolicy\nmetadata: {name: default}\nspec: {peers: [{mtls: {mode: PERMISSIVE}}]}\n",
		"peerauthentications.security.istio.io":   "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n",
		"authorizationpolicies.security.istio.io": "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: x}\nspec: {action: DENY, rules: [{to: [{operation: {ports: [\"1\"]}}]}]}\n",
		"destinationrules.networking.istio.io":    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x}\nspec: {host: x}\n",
		"serviceentries.networking.istio.io":      "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: x}\nspec: {hosts: [x.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}\n",
		"gateways.networking.istio.io":            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: x}\nspec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [x.example.com]}]}\n",
		"virtualservices.networking.istio.io":     "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec: {hosts: [x.example.com], http: [{route: [{destination: {host: x}}]}]}\n",
	} {
		if out, err := kubectl(t, text, "apply", "-n", "status", "-f", "-"); err != nil {
			t.Errorf("%s: %v", out, err)
			continue
		}
		gr := schema.ParseGroupResource(kind)
		version := map[string]string{"authentication.istio.io": "v1alpha1"}[gr.Group]
		if version == "" {
			version = "v1"
		}
		eventually(t, kind+" is reconciled", func() (bool, error) {
			list, err := env.dyn.Resource(gr.WithVersion(version)).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				return false, err
			}
			for _, o := range list.Items {
				status, _ := o.Object["status"].(map[string]any)
				if conditions, _ := status["conditions"].([]any); len(conditions) > 0 {
					return true, nil
				}
			}
			return false, nil
		})
	}
	if out, err := kubectl(t, "", "delete", "meshpolicy", "default"); err != nil {
		t.Errorf("%s: %v", out, err)
	}
}

// A replica that stops says so first, and serves on for the drain time.
func TestDrain(t *testing.T) {
	need(t)
	forget(t)
	a := begin(t, "a", func(c *cluster.Config) { c.Drain = 2 * time.Second }).ready(t)
	a.stop()
	eventually(t, "it says that it stops", func() (bool, error) {
		code, text, err := a.get(a.cfg.Listeners.Health, "/healthz/ready")
		return code == 503 && text == "it is stopping\n", err
	})
	if code, text, err := a.get(a.cfg.Listeners.Health, "/healthz/live"); code != 200 || text != "alive\n" || err != nil {
		t.Errorf("%d %q %v", code, text, err)
	}
	roots := secret(t, cluster.OwnSecret).Data["root-cert.pem"]
	if _, err := certificate(a.cfg.Listeners.XDS, roots); err != nil {
		t.Errorf("xDS is gone before the drain is over: %v", err)
	}
}
