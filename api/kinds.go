package api

import (
	"reflect"
	"slices"

	networking "istio.io/client-go/pkg/apis/networking/v1"
	security "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// API groups of the kinds that hasp reads.
const (
	GroupAuthentication = "authentication.istio.io"
	GroupNetworking     = "networking.istio.io"
	GroupSecurity       = "security.istio.io"
)

// kind is one row of what this package decodes: every version of a kind becomes
// one Go type.
type kind struct {
	group    string
	name     string
	versions []string
	typ      reflect.Type
}

// kinds is the table of everything hasp reads, the preferred version first.
func kinds() []kind {
	istio := []string{"v1", "v1beta1", "v1alpha3"}
	return []kind{
		{GroupAuthentication, "Policy", []string{"v1alpha1"}, reflect.TypeFor[Policy]()},
		{GroupAuthentication, "MeshPolicy", []string{"v1alpha1"}, reflect.TypeFor[MeshPolicy]()},

		{GroupNetworking, "DestinationRule", istio, reflect.TypeFor[networking.DestinationRule]()},
		{GroupNetworking, "ServiceEntry", istio, reflect.TypeFor[networking.ServiceEntry]()},
		{GroupNetworking, "WorkloadEntry", istio, reflect.TypeFor[networking.WorkloadEntry]()},
		{GroupNetworking, "Gateway", istio, reflect.TypeFor[networking.Gateway]()},
		{GroupNetworking, "VirtualService", istio, reflect.TypeFor[networking.VirtualService]()},

		{GroupSecurity, "PeerAuthentication", []string{"v1", "v1beta1"}, reflect.TypeFor[security.PeerAuthentication]()},
		{GroupSecurity, "AuthorizationPolicy", []string{"v1", "v1beta1"}, reflect.TypeFor[security.AuthorizationPolicy]()},

		{"", "Namespace", []string{"v1"}, reflect.TypeFor[corev1.Namespace]()},
		{"", "Service", []string{"v1"}, reflect.TypeFor[corev1.Service]()},
		{"", "ServiceAccount", []string{"v1"}, reflect.TypeFor[corev1.ServiceAccount]()},
		{"", "ConfigMap", []string{"v1"}, reflect.TypeFor[corev1.ConfigMap]()},
		{"", "Secret", []string{"v1"}, reflect.TypeFor[corev1.Secret]()},
		{"", "Pod", []string{"v1"}, reflect.TypeFor[corev1.Pod]()},

		{discoveryv1.GroupName, "EndpointSlice", []string{"v1"}, reflect.TypeFor[discoveryv1.EndpointSlice]()},

		{"apps", "Deployment", []string{"v1"}, reflect.TypeFor[appsv1.Deployment]()},
		{"apps", "StatefulSet", []string{"v1"}, reflect.TypeFor[appsv1.StatefulSet]()},
		{"apps", "DaemonSet", []string{"v1"}, reflect.TypeFor[appsv1.DaemonSet]()},
	}
}

// istioUnread are the kinds of Istio's groups that hasp does not read. With
// those of kinds they are all that there are.
var istioUnread = map[string][]string{
	GroupAuthentication: nil,
	GroupNetworking:     {"EnvoyFilter", "ProxyConfig", "Sidecar", "WorkloadGroup"},
	GroupSecurity:       {"RequestAuthentication"},
}

// lookup finds the row of a kind, whatever its version.
func lookup(gk schema.GroupKind) (kind, bool) {
	table := kinds()
	i := slices.IndexFunc(table, func(k kind) bool { return k.group == gk.Group && k.name == gk.Kind })
	if i < 0 {
		return kind{}, false
	}
	return table[i], true
}

// kindsOf are the names of the kinds of one group.
func kindsOf(group string) []string {
	var names []string
	for _, k := range kinds() {
		if k.group == group {
			names = append(names, k.name)
		}
	}
	return names
}

// elsewhere is the preferred apiVersion of a kind by that name, "" without one.
func elsewhere(name string) string {
	for _, k := range kinds() {
		if k.name == name {
			return k.apiVersions()[0]
		}
	}
	return ""
}

// serves reports whether the kind has that version.
func (k kind) serves(version string) bool { return slices.Contains(k.versions, version) }

// apiVersions are the kind's versions as a manifest writes them.
func (k kind) apiVersions() []string {
	var out []string
	for _, v := range k.versions {
		out = append(out, schema.GroupVersion{Group: k.group, Version: v}.String())
	}
	return out
}
