package api

// The marks of injection, as Istio has them.
const (
	// InjectKey is the pod's own word, "true" or "false": a label, or an
	// annotation as of old.
	InjectKey = "sidecar.istio.io/inject"
	// InjectStatusKey is the annotation that injection leaves on a pod.
	InjectStatusKey = "sidecar.istio.io/status"
	// NamespaceInjectKey is the namespace's word, "enabled" or "disabled".
	NamespaceInjectKey = "istio-injection"
	// RevisionKey on a namespace asks for the sidecar of a revision.
	RevisionKey = "istio.io/rev"
)

// Injected reports whether a pod asks for a sidecar: by
// sidecar.istio.io/inject on the pod, else by istio-injection or
// istio.io/rev on its namespace. A namespace with istio-injection: disabled is
// passed over whatever its pods say, as Istio's webhook does.
func Injected(annotations, labels, nsLabels map[string]string) bool {
	if nsLabels[NamespaceInjectKey] == "disabled" {
		return false
	}
	for _, m := range []map[string]string{labels, annotations} {
		switch m[InjectKey] {
		case "true":
			return true
		case "false":
			return false
		}
	}
	return nsLabels[NamespaceInjectKey] == "enabled" || nsLabels[RevisionKey] != ""
}
