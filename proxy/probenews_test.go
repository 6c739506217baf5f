package proxy

import (
	"fmt"
	"net/netip"
	"testing"

	"hasp/mesh"
)

func TestProbeNews(t *testing.T) {
	var n probeNews
	probe := func(port uint16, why string) *mesh.Connection {
		return &mesh.Connection{Security: mesh.Probed, Allowed: true, Why: why, Destination: netip.AddrPortFrom(netip.IPv4Unspecified(), port)}
	}
	const well, ill = "HTTP probe GET /healthz: the workload answered 200", "HTTP probe GET /healthz: the workload answered 503"
	refused := probe(8080, well)
	refused.Allowed = false
	plain := probe(8080, well)
	plain.Security = mesh.Plaintext
	for i, tc := range []struct {
		f    *mesh.Connection
		want bool
	}{
		{probe(8080, well), true},
		{probe(8080, well), false},
		{probe(8080, "HTTP probe GET /ready: the workload answered 200"), true},
		{probe(8081, well), true},
		{probe(8080, well), false},
		{probe(8080, ill), true},
		{probe(8080, ill), false},
		{probe(8080, well), true},
		{refused, true}, {refused, true},
		{plain, true}, {plain, true},
	} {
		if got := n.fresh(tc.f); got != tc.want {
			t.Errorf("%d: %s on %s: %v", i, tc.f.Why, tc.f.Destination, got)
		}
	}
	for i := range 10 * maxProbeNews {
		n.fresh(probe(8080, fmt.Sprintf("HTTP probe GET /%d: the workload answered 404", i)))
	}
	if len(n.last) > maxProbeNews {
		t.Errorf("%d answers are remembered", len(n.last))
	}
}
