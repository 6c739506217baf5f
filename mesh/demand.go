package mesh

import "net/netip"

// Demand is what a proxy asks to be told about, of a mesh that is too large to be
// told whole: the addresses that its workload connects to, and those of whoever
// connects to it. Addresses are unmapped.
type Demand struct {
	Services map[netip.AddrPort]bool
	Peers    map[netip.Addr]bool
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
