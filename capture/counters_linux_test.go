package capture

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

// The counters say how many connections went which way, in both families, and
// that the rules in force are those that were asked for.
func TestCounters(t *testing.T) {
	p := newPair(t)
	spec := sidecar
	spec.ExcludeInboundPorts = []uint16{15021}
	spec.ExcludeOutboundPorts = []uint16{81}
	spec.ExcludeCIDRs = []netip.Prefix{netip.MustParsePrefix("10.9.0.7/32"), netip.MustParsePrefix("fd09:7::/32")}
	spec.Doors = map[uint16]uint16{8081: 15100}
	if err := Apply(int(p.workload), spec); err != nil {
		t.Fatal(err)
	}
	listen(t, p.workload, "tcp", ":15001")
	listen(t, p.workload, "tcp", ":15006")
	listen(t, p.workload, "tcp", ":15021")
	for _, a := range []string{"10.9.0.2:8080", "[fd09::2]:8080", "10.9.0.2:15021"} {
		conn, err := dial(p.outside, net.Dialer{}, a)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	conn, err := dial(p.workload, net.Dialer{}, "[fd09::1]:80")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	got, err := Counters(int(p.workload), spec)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{
		"meta l4proto tcp counter redirect to :15006": 2, "meta l4proto tcp counter redirect to :15001": 1, "tcp dport 15021 counter return": 1,
	}
	for _, c := range got {
		if c.Connections != want[c.Rule.String()] {
			t.Errorf("%s: %d connections, want %d", c.Rule, c.Connections, want[c.Rule.String()])
		}
	}
	if len(got) != len(spec.Rules()) {
		t.Errorf("%d rules are counted, want %d", len(got), len(spec.Rules()))
	}

	other := spec
	other.ExcludeInboundPorts = append(other.ExcludeInboundPorts, 22)
	if _, err := Counters(int(p.workload), other); err == nil || !strings.Contains(err.Error(), "is not") {
		t.Errorf("other rules than those in force: %v", err)
	}
	if _, err := Counters(int(p.outside), spec); err == nil {
		t.Error("a namespace that is not captured has no counters")
	}
}
