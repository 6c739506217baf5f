package proxy

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"

	"hasp/mesh"
)

// TestKeepalive: the kernel asks the peer of every leg of a silent connection whether
// it is still there, so that one that is gone is noticed without an idle timeout.
func TestKeepalive(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	c := dial(t, "127.0.0.5", m.client.outboundTo(vip))
	io.WriteString(c, "hi")
	if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{m.client, m.server} {
		f := n.row(func(f mesh.Connection) bool { return f.Sent == 2 && f.Upstream.IsValid() })
		for leg, peer := range map[string]netip.AddrPort{"downstream": f.Source, "upstream": f.Upstream} {
			// 2 is the keepalive timer; others run while something is on its way.
			until(t, leg+" is kept alive", func() bool { return timers(t, peer) == "02" })
		}
	}
}

// timers is which timer runs for the socket that is connected to a peer.
func timers(t *testing.T, peer netip.AddrPort) (timer string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	a := peer.Addr().As4()
	remote := fmt.Sprintf("%02X%02X%02X%02X:%04X", a[3], a[2], a[1], a[0], peer.Port())
	for line := range strings.Lines(string(b)) {
		// sl local_address rem_address st tx_queue:rx_queue tr:tm->when ...
		if f := strings.Fields(line); len(f) > 5 && f[2] == remote && f[3] == "01" {
			timer, _, _ = strings.Cut(f[5], ":")
		}
	}
	return timer
}
