// Package source turns Kubernetes objects into a world.World. [Build] is the
// one way to do it: the control plane feeds it from informers, the CLI from a
// list call ([FromCluster]) or from files ([FromFiles]), so that a running mesh
// and a policy's unit test cannot read the same manifest differently.
//
// Who has a sidecar is a fact where there is a pod and an intent where there is
// but a manifest (role.go). Behind a Service are the ready pods that its
// selector picks, and what else its EndpointSlices list: addresses outside the
// cluster, or whatever a Service without selector leads to. A pod speaks for
// itself, so that a slice, which the cluster writes later than the pod, neither
// delays an endpoint nor keeps one that has gone; and where nobody writes slices,
// as in the embedded mesh, nothing is missing.
package source

import (
	"fmt"

	networking "istio.io/client-go/pkg/apis/networking/v1"
	security "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"hasp/api"
	"hasp/mesh"
	"hasp/world"
)

// Objects are what Build reads, as the API server has them.
type Objects struct {
	Namespaces  []*corev1.Namespace
	Services    []*corev1.Service
	Pods        []*corev1.Pod
	Deployments []*appsv1.Deployment // read only where there are no Pods of them
	Secrets     []*corev1.Secret
	ConfigMaps  []*corev1.ConfigMap
	// EndpointSlices, where there are any, add to what selectors find.
	EndpointSlices []*discoveryv1.EndpointSlice

	Policies              []*api.Policy
	MeshPolicies          []*api.MeshPolicy
	PeerAuthentications   []*security.PeerAuthentication
	AuthorizationPolicies []*security.AuthorizationPolicy
	DestinationRules      []*networking.DestinationRule
	ServiceEntries        []*networking.ServiceEntry
	WorkloadEntries       []*networking.WorkloadEntry
	Gateways              []*networking.Gateway
	VirtualServices       []*networking.VirtualService
}

// Problem is something an object says that could not be used. The rest of the
// World is built without it.
type Problem struct {
	Object  mesh.Origin `json:"object"`
	Message string      `json:"message"`
}

func (p Problem) String() string { return fmt.Sprintf("%s: %s", p.Object, p.Message) }

// Build makes a snapshot of what a [Builder] makes many. trustDomain is that of the
// running CA, which a mesh cannot change while it runs; empty (no mesh runs) takes
// what the settings say.
func Build(o *Objects, trustDomain string) (*world.World, []Problem) {
	b := NewBuilder(trustDomain)
	o.each(b.Set)
	built := b.Build()
	return built.World, built.Problems
}

// meshConfig reads the ConfigMap istio of the root namespace. A settings text
// that does not parse is a Problem, and the defaults serve.
func meshConfig(maps []*corev1.ConfigMap) (*api.MeshConfig, []Problem) {
	def := api.DefaultMeshConfig()
	for _, m := range maps {
		if m.Name != api.MeshConfigName || m.Namespace != def.RootNamespace {
			continue
		}
		text, ok := m.Data[api.MeshConfigKey]
		if !ok {
			continue
		}
		c, err := api.ParseMeshConfig(text)
		if err != nil {
			return def, []Problem{{settings(m.Namespace), err.Error()}}
		}
		return c, nil
	}
	return def, nil
}

// settings is the origin of what the mesh-wide settings say.
func settings(namespace string) mesh.Origin {
	return mesh.Origin{Kind: "ConfigMap", Namespace: namespace, Name: api.MeshConfigName, Level: mesh.LevelMesh}
}

// secretCA is the key of the authority that clients of a gateway must be signed
// by, as cert-manager and Istio write it.
const secretCA = "ca.crt"

// secrets keeps the TLS secrets, under NAMESPACE/NAME.
func secrets(list []*corev1.Secret) map[string]mesh.Secret {
	out := map[string]mesh.Secret{}
	for _, s := range list {
		cert, key := s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]
		if len(cert) == 0 || len(key) == 0 {
			continue
		}
		out[s.Namespace+"/"+s.Name] = mesh.Secret{Name: "kubernetes://" + s.Name, Cert: cert, Key: key, CA: s.Data[secretCA]}
	}
	return out
}
