package capture

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Which sockets take a connection to which address, in the kernel's own words:
// what is asked is then dialled.
func TestListening(t *testing.T) {
	if os.Getenv(inside) != "" { // a new namespace's loopback is down
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			t.Fatal(err)
		}
	}
	l, err := OpenListening()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	listen := func(network, address string) uint16 {
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		return uint16(ln.Addr().(*net.TCPAddr).Port)
	}
	both, v4, v6, local := listen("tcp", ":0"), listen("tcp4", ":0"), listen("tcp6", ":0"), listen("tcp4", "127.0.0.1:0")
	gone := func() uint16 {
		ln, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		return uint16(ln.Addr().(*net.TCPAddr).Port)
	}()
	for _, tc := range []struct {
		name string
		host string
		port uint16
		want bool
	}{
		{"both families", "127.0.0.1", both, true},
		{"both families", "::1", both, true},
		{"both families", "::ffff:127.0.0.1", both, true},
		{"IPv4", "127.0.0.1", v4, true},
		{"IPv4", "::1", v4, false},
		{"IPv6", "::1", v6, true},
		{"IPv6", "127.0.0.1", v6, false},
		{"one address", "127.0.0.1", local, true},
		{"one address", "127.0.0.2", local, false},
		{"nobody", "127.0.0.1", gone, false},
	} {
		at := netip.AddrPortFrom(netip.MustParseAddr(tc.host), tc.port)
		got, err := l.At(at)
		if err != nil || got != tc.want {
			t.Errorf("%s, asked for %s: %v, %v; want %v", tc.name, tc.host, got, err, tc.want)
		}
		c, err := net.Dial("tcp", at.String())
		if (err == nil) != tc.want {
			t.Errorf("%s, dialled %s: %v", tc.name, tc.host, err)
		}
		if err == nil {
			c.Close()
		}
	}
	for host, want := range map[string]bool{"0.0.0.0": false, "::": false} {
		if got, err := l.At(netip.AddrPortFrom(netip.MustParseAddr(host), local)); err != nil || got != want {
			t.Errorf("bound to one address, asked for %s: %v, %v", host, got, err)
		}
	}
	if got, err := l.At(netip.AddrPortFrom(netip.IPv4Unspecified(), both)); err != nil || !got {
		t.Errorf("bound to all addresses, asked for 0.0.0.0: %v, %v", got, err)
	}
}

func TestListenAnswer(t *testing.T) {
	b := listenQuery(netip.MustParseAddrPort("10.0.0.7:80"), 7)
	if _, _, err := listenAnswer(b[:10]); err == nil || err.Error() != "an answer of 10 bytes" {
		t.Errorf("a short answer: %v", err)
	}
	b[4], b[5] = unix.NLMSG_ERROR, 0
	for i := range 4 {
		b[unix.SizeofNlMsghdr+i] = 0xff // -1
	}
	if seq, _, err := listenAnswer(b); seq != 7 || !errors.Is(err, unix.EPERM) {
		t.Errorf("a refusal: %d, %v", seq, err)
	}
}

func BenchmarkListening(b *testing.B) {
	l, err := OpenListening()
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	at := netip.MustParseAddrPort("127.0.0.1:80")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.At(at); err != nil {
			b.Fatal(err)
		}
	}
}
