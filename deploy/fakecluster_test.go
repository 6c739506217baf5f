package deploy_test

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"hasp/deploy"
)

// fakeKinds are what a fakeCluster has.
const fakeKinds = `
/v1/namespaces/Namespace /v1/services/Service /v1/configmaps/ConfigMap /v1/serviceaccounts/ServiceAccount
/v1/secrets/Secret /v1/pods/Pod /v1/persistentvolumeclaims/PersistentVolumeClaim
apps/v1/deployments/Deployment apps/v1/daemonsets/DaemonSet apps/v1/statefulsets/StatefulSet
batch/v1/jobs/Job batch/v1/cronjobs/CronJob autoscaling/v2/horizontalpodautoscalers/HorizontalPodAutoscaler
policy/v1/poddisruptionbudgets/PodDisruptionBudget networking.k8s.io/v1/networkpolicies/NetworkPolicy
coordination.k8s.io/v1/leases/Lease k8s.cni.cncf.io/v1/network-attachment-definitions/NetworkAttachmentDefinition
rbac.authorization.k8s.io/v1/roles/Role rbac.authorization.k8s.io/v1/rolebindings/RoleBinding
rbac.authorization.k8s.io/v1/clusterroles/ClusterRole rbac.authorization.k8s.io/v1/clusterrolebindings/ClusterRoleBinding
admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/MutatingWebhookConfiguration
admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ValidatingWebhookConfiguration
apiextensions.k8s.io/v1/customresourcedefinitions/CustomResourceDefinition
authentication.istio.io/v1alpha1/policies/Policy authentication.istio.io/v1alpha1/meshpolicies/MeshPolicy
security.istio.io/v1/peerauthentications/PeerAuthentication security.istio.io/v1/authorizationpolicies/AuthorizationPolicy
networking.istio.io/v1/destinationrules/DestinationRule networking.istio.io/v1/gateways/Gateway
networking.istio.io/v1/serviceentries/ServiceEntry networking.istio.io/v1/virtualservices/VirtualService
networking.istio.io/v1/workloadentries/WorkloadEntry`

// fakeCluster is a deploy.Cluster on a store in memory, which keeps what is
// applied whole, and what it said.
type fakeCluster struct {
	*deploy.Cluster
	said []string
}

func newFakeCluster(t *testing.T, objects ...*unstructured.Unstructured) *fakeCluster {
	t.Helper()
	lists := map[schema.GroupVersionResource]string{}
	for _, k := range strings.Fields(fakeKinds) {
		part := strings.Split(k, "/") // group/version/resource/Kind
		lists[schema.GroupVersionResource{Group: part[0], Version: part[1], Resource: part[2]}] = part[3] + "List"
	}
	client := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists)
	for _, o := range objects {
		r, err := resourceOf(o)
		if err == nil {
			err = client.Tracker().Create(r, o, o.GetNamespace())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	client.PrependReactor("patch", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		a := action.(clienttesting.PatchActionImpl)
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(a.GetPatch()); err != nil {
			return true, nil, err
		}
		if len(a.GetPatchOptions().DryRun) > 0 {
			return true, u, nil
		}
		err := client.Tracker().Create(a.GetResource(), u, a.GetNamespace())
		if apierrors.IsAlreadyExists(err) {
			err = client.Tracker().Update(a.GetResource(), u, a.GetNamespace())
		}
		return true, u, err
	})
	f := &fakeCluster{}
	f.Cluster = &deploy.Cluster{Client: client, Say: func(line string) { f.said = append(f.said, line) }}
	return f
}

// resourceOf the chart's kinds, and of those that a test adds.
func resourceOf(u *unstructured.Unstructured) (schema.GroupVersionResource, error) {
	switch u.GetKind() {
	case "Secret":
		return schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, nil
	case "Pod":
		return schema.GroupVersionResource{Version: "v1", Resource: "pods"}, nil
	case "Lease":
		return schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}, nil
	case "PeerAuthentication":
		return schema.GroupVersionResource{Group: "security.istio.io", Version: "v1", Resource: "peerauthentications"}, nil
	}
	return deploy.Resource(u)
}

// object of an API version, with labels in pairs.
func object(apiVersion, kind, namespace, name string, labels ...string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	u.SetNamespace(namespace)
	u.SetName(name)
	if len(labels) > 0 {
		m := map[string]string{}
		for i := 0; i < len(labels); i += 2 {
			m[labels[i]] = labels[i+1]
		}
		u.SetLabels(m)
	}
	return u
}

var createOptions metav1.CreateOptions

// definitionNames are the chart's CRDs.
func definitionNames(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, u := range render(t, "") {
		if u.GetKind() == "CustomResourceDefinition" {
			out = append(out, u.GetName())
		}
	}
	return out
}
