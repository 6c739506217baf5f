package capture

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestVerify(t *testing.T) {
	p := newPair(t)
	ln := listen(t, p.workload, "tcp", ":15001").(*net.TCPListener)
	from := func(ctx context.Context, _, addr string) (net.Conn, error) {
		deadline, _ := ctx.Deadline()
		return dial(p.workload, net.Dialer{Deadline: deadline}, addr)
	}
	there := netip.MustParseAddrPort("10.9.0.1:9")
	listen(t, p.outside, "tcp", ":9")
	v4, v6, unrouted := netip.MustParseAddrPort("10.9.0.77:9"), netip.MustParseAddrPort("[fd09::77]:9"), netip.MustParseAddrPort("192.0.2.1:9")

	err := Verify(t.Context(), ln, from, []netip.AddrPort{unrouted, there})
	if want := "capture: verify: dial tcp 192.0.2.1:9: connect: network is unreachable\ncapture: verify: a connection to 10.9.0.1:9 was not redirected to [::]:15001: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("not captured: got %v, want %s...", err, want)
	}
	if err := Apply(int(p.workload), pod); err != nil {
		t.Fatal(err)
	}
	// A stranger's connection, which is waiting already, is not taken for it.
	if c, err := dial(p.outside, net.Dialer{}, "10.9.0.2:15021"); err == nil {
		c.Close()
	}
	for _, targets := range [][]netip.AddrPort{{v4}, {v6}, {unrouted, v6}} {
		if err := Verify(t.Context(), ln, from, targets); err != nil {
			t.Errorf("%s: %v", targets, err)
		}
	}
	if err := Verify(t.Context(), ln, from, nil); err == nil || err.Error() != "capture: no target to verify" {
		t.Errorf("no targets: %v", err)
	}
}
