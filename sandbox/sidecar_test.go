package sandbox

import (
	"testing"

	"hasp/api"
)

// TestMarkSidecar: who is told at its creation that it has a sidecar.
func TestMarkSidecar(t *testing.T) {
	images := Images{"hasp/gateway": {Gateway: true}}
	for _, c := range []struct {
		name           string
		asks, image    string
		hostNetwork    bool
		namespace      map[string]string
		annotated, has string
	}{
		{name: "does not ask"},
		{name: "asks", asks: "true", has: `{"containers":["istio-proxy"]}`},
		{name: "namespace asks", namespace: map[string]string{"istio-injection": "enabled"}, has: `{"containers":["istio-proxy"]}`},
		{name: "namespace asks by revision", namespace: map[string]string{"istio.io/rev": "canary"}, has: `{"containers":["istio-proxy"]}`},
		{name: "namespace asks, pod declines", asks: "false", namespace: map[string]string{"istio-injection": "enabled"}},
		{name: "namespace disabled", asks: "true", namespace: map[string]string{"istio-injection": "disabled"}},
		{name: "on the host's network", asks: "true", hostNetwork: true},
		{name: "a gateway", asks: "true", image: "hasp/gateway"},
		{name: "marked before", asks: "true", annotated: "kept", has: "kept"},
	} {
		p := simplePod("p", "sleep", "1")
		p.Annotations = map[string]string{}
		if c.asks != "" {
			p.Annotations[api.InjectKey] = c.asks
		}
		if c.annotated != "" {
			p.Annotations[api.InjectStatusKey] = c.annotated
		}
		if c.image != "" {
			p.Spec.Containers[0].Image = c.image
		}
		p.Spec.HostNetwork = c.hostNetwork
		images.MarkSidecar(p, c.namespace)
		if got := p.Annotations[api.InjectStatusKey]; got != c.has {
			t.Errorf("%s: annotation %q, want %q", c.name, got, c.has)
		}
	}
}
