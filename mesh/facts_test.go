package mesh

import (
	"net/netip"
	"testing"
)

// What only one end calls an address by is not in the name of a connection.
func TestTraceOfAddresses(t *testing.T) {
	at := netip.MustParseAddrPort
	want := TraceOf(nil, at("[fe80::1]:4711"), at("10.0.0.1:80"))
	for _, tc := range []struct{ client, server string }{
		{"[fe80::1%eth0]:4711", "10.0.0.1:80"},
		{"[fe80::1%cali7]:4711", "[::ffff:10.0.0.1]:80"},
	} {
		if got := TraceOf(nil, at(tc.client), at(tc.server)); got != want {
			t.Errorf("%s to %s: got %s, want %s", tc.client, tc.server, got, want)
		}
	}
	for _, tc := range []struct{ client, server string }{
		{"[fe80::1]:4712", "10.0.0.1:80"}, {"10.0.0.1:80", "[fe80::1]:4711"},
	} {
		if TraceOf(nil, at(tc.client), at(tc.server)) == want {
			t.Errorf("%s to %s has the same", tc.client, tc.server)
		}
	}
	random := []byte("0123456789abcdef0123456789abcdef")
	if got := TraceOf(random, at("10.0.0.1:1"), at("10.0.0.2:2")); got != TraceOf(random, netip.AddrPort{}, netip.AddrPort{}) || len(got) != 16 {
		t.Errorf("with a random: %s", got)
	}
}
