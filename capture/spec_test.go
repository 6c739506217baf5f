package capture

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var sidecar = Spec{OutboundPort: 15001, InboundPort: 15006, ExemptMark: 1337}

// specs are the golden cases; each has a file in testdata.
var specs = map[string]Spec{
	"mark": sidecar,
	"uid":  {OutboundPort: 15001, InboundPort: 15006, ExemptUID: 1337},
	"exclusions": {
		OutboundPort: 15001, InboundPort: 15006, ExemptUID: 1337, ExemptMark: 1337,
		ExcludeInboundPorts:  []uint16{15090, 15021, 15090},
		ExcludeOutboundPorts: []uint16{5432},
		ExcludeCIDRs: []netip.Prefix{
			netip.MustParsePrefix("fd00::/8"),
			netip.MustParsePrefix("10.1.2.3/9"),
			netip.MustParsePrefix("169.254.169.254/32"),
			netip.MustParsePrefix("::ffff:192.168.0.0/112"),
		},
	},
	"inclusions": {
		OutboundPort: 15001, InboundPort: 15006, ExemptUID: 1337,
		IncludeInboundPorts:  []uint16{9090, 8080},
		ExcludeInboundPorts:  []uint16{15021},
		Doors:                map[uint16]uint16{8080: 15100, 6379: 15101},
		IncludeCIDRs:         []netip.Prefix{netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("10.0.0.1/32")},
		IncludeOutboundPorts: []uint16{8443},
		ExcludeOutboundPorts: []uint16{5432},
	},
	"nothing": {
		OutboundPort: 15001, InboundPort: 15006, ExemptUID: 1337,
		IncludeInboundPorts: []uint16{}, IncludeCIDRs: []netip.Prefix{}, Doors: map[uint16]uint16{6379: 15100},
	},
	"doors": {
		OutboundPort: 15001, InboundPort: 15006, ExemptUID: 1337,
		IncludeCIDRs: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
		Doors:        map[uint16]uint16{6379: 15101, 3306: 15100},
	},
}

func TestSpecString(t *testing.T) {
	for name, spec := range specs {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name+".nft")
			if *update {
				if err := os.WriteFile(file, []byte(spec.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), spec.String()); diff != "" {
				t.Errorf("ruleset (-want +got):\n%s", diff)
			}
		})
	}
}

func TestApplyRefusesSpec(t *testing.T) {
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{InboundPort: 1, ExemptMark: 1}, "capture: outbound and inbound port are needed"},
		{Spec{InboundPort: 1, OutboundPort: 1, ExemptMark: 1}, "capture: outbound and inbound port must differ"},
		{Spec{InboundPort: 1, OutboundPort: 2}, "capture: neither a user id nor a mark exempts the sidecar's own connections"},
		{Spec{InboundPort: 1, OutboundPort: 2, ExemptUID: 1, Doors: map[uint16]uint16{80: 0}}, "capture: port 80 cannot have the door 0"},
		{Spec{InboundPort: 1, OutboundPort: 2, ExemptUID: 1, IncludeCIDRs: []netip.Prefix{{}}}, "capture: an included address range is not valid"},
		{Spec{InboundPort: 1, OutboundPort: 2, ExemptUID: 1, ExcludeCIDRs: []netip.Prefix{{}}}, "capture: an excluded address range is not valid"},
	} {
		err := Apply(-1, c.spec)
		if err == nil || err.Error() != c.want {
			t.Errorf("Apply(%+v): got %v, want %s", c.spec, err, c.want)
		}
	}
}
