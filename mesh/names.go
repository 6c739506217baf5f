package mesh

// Names are what metrics call a workload: few, where pods are many. They are
// Istio's standard labels
// (https://istio.io/latest/docs/reference/config/metrics/#labels).
type Names struct {
	Owner    string `json:"owner,omitempty"` // the Deployment, or the pod itself
	App      string `json:"app,omitempty"`   // labels app and version
	Version  string `json:"version,omitempty"`
	Service  string `json:"service,omitempty"` // canonical service and revision
	Revision string `json:"revision,omitempty"`
}

// Labels are the names as labels; none for a workload without names.
func (n Names) Labels() map[string]string {
	var out map[string]string
	for _, l := range [...]struct{ key, value string }{
		{"owner", n.Owner}, {"app", n.App}, {"version", n.Version}, {"service", n.Service}, {"revision", n.Revision},
	} {
		if l.value == "" {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[l.key] = l.value
	}
	return out
}

// NamesIn are the names that labels were made of; unknown is a label that is no
// name, if there is one.
func NamesIn(labels map[string]string) (n Names, unknown string) {
	for k, v := range labels {
		switch k {
		case "owner":
			n.Owner = v
		case "app":
			n.App = v
		case "version":
			n.Version = v
		case "service":
			n.Service = v
		case "revision":
			n.Revision = v
		default:
			unknown = k
		}
	}
	return n, unknown
}
