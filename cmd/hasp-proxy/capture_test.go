package main

import (
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hasp/capture"
)

func TestParseCapture(t *testing.T) {
	base := capture.Spec{
		OutboundPort: 15001, InboundPort: 15006, ExemptUID: 1337,
		ExcludeInboundPorts: []uint16{15021, 15090}, Doors: map[uint16]uint16{},
	}
	all := capture.Spec{
		OutboundPort: 15001, InboundPort: 15006, ExemptUID: 1000650000,
		IncludeInboundPorts: []uint16{8080, 6379}, ExcludeInboundPorts: []uint16{9000, 15021, 15090},
		Doors:        map[uint16]uint16{3306: 15100, 6379: 15101},
		IncludeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}, IncludeOutboundPorts: []uint16{443},
		ExcludeCIDRs: []netip.Prefix{netip.MustParsePrefix("169.254.169.254/32")}, ExcludeOutboundPorts: []uint16{5432},
	}
	nothing := base
	nothing.IncludeInboundPorts, nothing.IncludeCIDRs = []uint16{}, []netip.Prefix{}
	for _, tc := range []struct {
		args    []string
		want    capture.Spec
		verbose bool
	}{
		{nil, base, false},
		{[]string{"--include-inbound-ports=*", "--include-outbound-ip-ranges", " * ", "--exclude-inbound-ports=", "-v"}, base, true},
		{[]string{"--include-inbound-ports=", "--include-outbound-ip-ranges="}, nothing, false},
		{[]string{
			"--uid=1000650000", "--include-inbound-ports=8080, 6379,", "--exclude-inbound-ports=9000", "--probe-ports=6379,3306,6379",
			"--include-outbound-ip-ranges=10.0.0.0/8,fd00::/8", "--include-outbound-ports=443",
			"--exclude-outbound-ip-ranges=169.254.169.254/32", "--exclude-outbound-ports=5432",
		}, all, false},
	} {
		spec, verbose, err := parseCapture(tc.args, io.Discard)
		if err != nil || verbose != tc.verbose {
			t.Errorf("%s: verbose %v, %v", tc.args, verbose, err)
		}
		sameList := cmpopts.SortSlices(func(a, b uint16) bool { return a < b })
		if d := cmp.Diff(tc.want, spec, cmpopts.EquateComparable(netip.Prefix{}), sameList); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.args, d)
		}
		if (tc.want.IncludeCIDRs == nil) != (spec.IncludeCIDRs == nil) || (tc.want.IncludeInboundPorts == nil) != (spec.IncludeInboundPorts == nil) {
			t.Errorf("%s: everything and nothing are mixed up: %+v", tc.args, spec)
		}
	}
}

func TestCaptureFlagsRefused(t *testing.T) {
	for _, tc := range []struct{ arg, want string }{
		{"--exclude-inbound-ports=80,http", `invalid value "80,http" for flag -exclude-inbound-ports: "http" is not a port`},
		{"--exclude-inbound-ports=*", `"*" is not a port`},
		{"--probe-ports=0", `"0" is not a port`},
		{"--include-outbound-ports=65536", `"65536" is not a port`},
		{"--include-outbound-ip-ranges=10.0.0.0/33", `netip.ParsePrefix("10.0.0.0/33"): prefix length out of range`},
		{"--uid=0", "hasp-proxy capture: --uid 0: the sidecar needs a user of its own\n"},
		{"--uid=4294967295", "hasp-proxy capture: --uid 4294967295: the sidecar needs a user of its own\n"},
		{"now", "hasp-proxy capture: unexpected argument \"now\"\n"},
	} {
		var out strings.Builder
		_, _, err := parseCapture([]string{tc.arg}, &out)
		var wrong usageError
		if !errors.As(err, &wrong) || !strings.Contains(out.String(), tc.want) {
			t.Errorf("%s: %v\n%s", tc.arg, err, out.String())
		}
	}
}

// FuzzCaptureLists feeds what stands in annotations of a pod.
func FuzzCaptureLists(f *testing.F) {
	f.Add("8080,9090", "10.0.0.0/8, fd00::/8")
	f.Add("*", "*")
	f.Fuzz(func(t *testing.T, ports, ranges string) {
		spec, _, err := parseCapture([]string{
			"--include-inbound-ports=" + ports, "--exclude-outbound-ports=" + ports, "--probe-ports=" + ports,
			"--include-outbound-ip-ranges=" + ranges, "--exclude-outbound-ip-ranges=" + ranges,
		}, io.Discard)
		if err == nil && len(spec.Rules()) == 0 {
			t.Errorf("no rules of %q and %q", ports, ranges)
		}
	})
}
