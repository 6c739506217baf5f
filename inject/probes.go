package inject

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"hasp/api"
	"hasp/mesh"
)

// meshProbes are a pod's questions as the sidecar has to know them: sorted, and
// each once however many containers and kinds of probe ask it. Hooks are none:
// whoever reaches the pod can ask what the sidecar answers in plaintext, and a
// hook does something.
func meshProbes(from []api.NetworkProbe) ([]mesh.Probe, error) {
	out := make([]mesh.Probe, 0, len(from))
	for _, q := range from {
		if !q.Hook {
			out = append(out, meshProbe(q))
		}
	}
	slices.SortFunc(out, func(a, b mesh.Probe) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Kind, b.Kind), cmp.Compare(text(a), text(b)))
	})
	out = slices.CompactFunc(out, func(a, b mesh.Probe) bool { return reflect.DeepEqual(a, b) })
	if n := len(out); n > mesh.MaxProbes {
		return nil, api.WrongPod("spec", "the pod has %d different probes, and a sidecar is told of %d; exclude some of their ports with %s", n, mesh.MaxProbes, api.ExcludeInboundPortsKey)
	}
	if n := len(text(out)); n > maxProbesText {
		return nil, api.WrongPod("spec", "the pod's probes are %d bytes, and a sidecar is told of %d; shorten their paths and headers, or exclude their ports with %s", n, maxProbesText, api.ExcludeInboundPortsKey)
	}
	return out, nil
}

// maxProbesText bounds what goes through an argument of the sidecar; Linux takes
// 128 KiB in one (MAX_ARG_STRLEN).
const maxProbesText = 64 << 10

// meshProbe is one question; the sidecar knows how a kubelet puts it on the wire.
func meshProbe(q api.NetworkProbe) mesh.Probe {
	switch h := q.Handler; {
	case h.HTTPGet != nil:
		p := mesh.Probe{Kind: mesh.ProbeHTTP, Port: q.Port, Path: cmp.Or(h.HTTPGet.Path, "/")}
		if h.HTTPGet.Scheme == corev1.URISchemeHTTPS {
			p.Kind = mesh.ProbeHTTPS
		}
		for _, header := range h.HTTPGet.HTTPHeaders {
			if strings.EqualFold(header.Name, "Host") {
				p.Host = header.Value
				continue
			}
			p.Headers = append(p.Headers, mesh.ProbeHeader{Name: header.Name, Value: header.Value})
		}
		return p
	case h.GRPC != nil:
		p := mesh.Probe{Kind: mesh.ProbeGRPC, Port: q.Port}
		if h.GRPC.Service != nil {
			p.Service = *h.GRPC.Service
		}
		return p
	}
	return mesh.Probe{Kind: mesh.ProbeTCP, Port: q.Port}
}

// text is a value as the sidecar's arguments have it.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("inject: probes: %v", err)) // strings and numbers only
	}
	return string(b)
}
