package sandbox

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hasp/api"
	"hasp/capture"
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

// TestCaptureSpec: the annotations are a cluster's, all of them, and so are the
// errors that the pod's status shows.
func TestCaptureSpec(t *testing.T) {
	p := simplePod("p", "sleep", "1")
	p.Annotations = map[string]string{
		api.IncludeInboundPortsKey: "8080", api.ExcludeInboundPortsKey: "8081",
		api.IncludeOutboundPortsKey: "5432", api.ExcludeOutboundPortsKey: "81",
		api.IncludeOutboundRangesKey: "10.96.0.0/16", api.ExcludeOutboundRangesKey: "10.96.1.0/24",
	}
	got, err := captureSpec(p)
	if err != nil {
		t.Fatal(err)
	}
	want := capture.Spec{
		OutboundPort: 15001, InboundPort: 15006, ExemptMark: Mark,
		IncludeInboundPorts: []uint16{8080}, ExcludeInboundPorts: []uint16{8081, 15021, 15090},
		IncludeOutboundPorts: []uint16{5432}, ExcludeOutboundPorts: []uint16{81},
		IncludeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		ExcludeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.1.0/24")},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}

	p.Annotations = map[string]string{"traffic.sidecar.istio.io/excludeInboundPort": "8081", api.ExcludeOutboundPortsKey: "many"}
	_, wanted := api.PlanCapture(p)
	if _, err := captureSpec(p); err == nil || err.Error() != wanted.Error() {
		t.Errorf("got  %v\nwant %v", err, wanted)
	}
}
