package source

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hasp/api"
)

var (
	configMapResource = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	secretResource    = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
)

// Scope is how much of a cluster a Watcher may read. The zero value reads all
// namespaces.
type Scope struct {
	// Secrets are the namespaces whose Secrets are read: those where gateways
	// run, since a Gateway's credentialName means a Secret beside its workload.
	// A Role in each of them is enough then. None reads the Secrets of all.
	Secrets []string
}

// namespaces are those to read a resource in, "" for all at once. Of ConfigMaps
// only the mesh-wide settings matter, wherever hasp runs.
func (s Scope) namespaces(r schema.GroupVersionResource) []string {
	switch {
	case r == configMapResource:
		return []string{api.DefaultMeshConfig().RootNamespace}
	case r == secretResource && len(s.Secrets) > 0:
		return s.Secrets
	}
	return []string{""}
}
