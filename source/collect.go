package source

import (
	"reflect"

	networking "istio.io/client-go/pkg/apis/networking/v1"
	security "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hasp/api"
)

// sliceGroup is the API group of EndpointSlices.
const sliceGroup = discoveryv1.GroupName

// Resources are what hasp reads of a cluster, in the version it reads them in.
func Resources() []schema.GroupVersionResource {
	gvr := func(group, version, resource string) schema.GroupVersionResource {
		return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
	}
	return []schema.GroupVersionResource{
		gvr("", "v1", "namespaces"),
		gvr("", "v1", "services"),
		gvr("", "v1", "pods"),
		secretResource,
		configMapResource,
		gvr(sliceGroup, "v1", "endpointslices"),
		gvr("authentication.istio.io", "v1alpha1", "policies"),
		gvr("authentication.istio.io", "v1alpha1", "meshpolicies"),
		gvr("security.istio.io", "v1", "peerauthentications"),
		gvr("security.istio.io", "v1", "authorizationpolicies"),
		gvr("networking.istio.io", "v1", "destinationrules"),
		gvr("networking.istio.io", "v1", "serviceentries"),
		gvr("networking.istio.io", "v1", "workloadentries"),
		gvr("networking.istio.io", "v1", "gateways"),
		gvr("networking.istio.io", "v1", "virtualservices"),
	}
}

// add files an object under its kind, and reports whether it is one that Build
// reads.
func (o *Objects) add(v any) bool {
	switch v := v.(type) {
	case *corev1.Namespace:
		o.Namespaces = append(o.Namespaces, v)
	case *corev1.Service:
		o.Services = append(o.Services, v)
	case *corev1.Pod:
		o.Pods = append(o.Pods, v)
	case *appsv1.Deployment:
		o.Deployments = append(o.Deployments, v)
	case *corev1.Secret:
		o.Secrets = append(o.Secrets, v)
	case *corev1.ConfigMap:
		o.ConfigMaps = append(o.ConfigMaps, v)
	case *discoveryv1.EndpointSlice:
		o.EndpointSlices = append(o.EndpointSlices, v)
	case *api.Policy:
		o.Policies = append(o.Policies, v)
	case *api.MeshPolicy:
		o.MeshPolicies = append(o.MeshPolicies, v)
	case *security.PeerAuthentication:
		o.PeerAuthentications = append(o.PeerAuthentications, v)
	case *security.AuthorizationPolicy:
		o.AuthorizationPolicies = append(o.AuthorizationPolicies, v)
	case *networking.DestinationRule:
		o.DestinationRules = append(o.DestinationRules, v)
	case *networking.ServiceEntry:
		o.ServiceEntries = append(o.ServiceEntries, v)
	case *networking.WorkloadEntry:
		o.WorkloadEntries = append(o.WorkloadEntries, v)
	case *networking.Gateway:
		o.Gateways = append(o.Gateways, v)
	case *networking.VirtualService:
		o.VirtualServices = append(o.VirtualServices, v)
	default:
		return false
	}
	return true
}

// each object.
func (o *Objects) each(f func(any)) {
	lists := reflect.ValueOf(o).Elem()
	for i := range lists.NumField() {
		for j := range lists.Field(i).Len() {
			f(lists.Field(i).Index(j).Interface())
		}
	}
}
