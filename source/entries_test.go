package source_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEntriesHaveAddresses: hosts without one get one each, always the same.
func TestEntriesHaveAddresses(t *testing.T) {
	const entry = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out}
spec: {hosts: [a.example.com, b.example.com], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}
`
	addresses := func() []string {
		w, _ := load(t, entry)
		var out []string
		for _, s := range w.Services {
			if !s.External || len(s.Addresses) != 1 || !strings.HasPrefix(s.Addresses[0].String(), "240.240.") {
				t.Errorf("%s: external=%t, addresses %v", s.Hostname, s.External, s.Addresses)
			}
			out = append(out, fmt.Sprint(s.Addresses))
		}
		return out
	}
	first, second := addresses(), addresses()
	if len(first) != 2 || first[0] == first[1] {
		t.Errorf("addresses %v, want two that differ", first)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the same manifest gives other addresses\n%s", diff)
	}
}
