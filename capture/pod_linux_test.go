package capture

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// pod is the Spec of a pod on Kubernetes, whose sidecar is told by its user.
var pod = Spec{
	OutboundPort: 15001, InboundPort: 15006, ExemptUID: sidecarUser,
	ExcludeInboundPorts: []uint16{15021, 15090},
}

// TestInclusions captures what is named, and nothing else.
func TestInclusions(t *testing.T) {
	p := newPair(t)
	spec := pod
	spec.IncludeCIDRs = []netip.Prefix{netip.MustParsePrefix("10.9.0.1/32"), netip.MustParsePrefix("fd09::/64")}
	spec.IncludeOutboundPorts = []uint16{9443}
	spec.ExcludeOutboundPorts = []uint16{81}
	spec.IncludeInboundPorts = []uint16{8080, 6379}
	spec.Doors = map[uint16]uint16{6379: 15100, 3306: 15101}
	if err := Apply(int(p.workload), spec); err != nil {
		t.Fatal(err)
	}
	out := listen(t, p.workload, "tcp", ":15001")
	in := listen(t, p.workload, "tcp", ":15006")
	door := listen(t, p.workload, "tcp", ":15100")
	for _, port := range []string{":9090", ":3306"} {
		listen(t, p.workload, "tcp", port)
	}
	listen(t, p.outside, "tcp", ":81")
	for _, c := range []struct {
		name string
		from netns.NsHandle
		addr string
		at   net.Listener // nil: not redirected
	}{
		{"a range v4", p.workload, "10.9.0.1:80", out},
		{"a range v6", p.workload, "[fd09::1]:80", out},
		{"a port at any address", p.workload, "10.9.0.77:9443", out},
		{"an excluded port within a range", p.workload, "10.9.0.1:81", nil},
		{"inbound port v4", p.outside, "10.9.0.2:8080", in},
		{"inbound port v6", p.outside, "[fd09::2]:8080", in},
		{"another inbound port", p.outside, "10.9.0.2:9090", nil},
		{"a door v4", p.outside, "10.9.0.2:6379", door},
		{"a door v6", p.outside, "[fd09::2]:6379", door},
		{"the door of a port that is not captured", p.outside, "10.9.0.2:3306", nil},
	} {
		t.Run(c.name, func(t *testing.T) { arrives(t, c.from, net.Dialer{}, c.addr, c.at, in, out, door) })
	}
	t.Run("another range", func(t *testing.T) {
		conn, err := dial(p.workload, net.Dialer{Timeout: 100 * time.Millisecond}, "10.9.0.77:80")
		if err == nil {
			conn.Close()
			t.Errorf("10.9.0.77:80 was redirected to %s", conn.RemoteAddr())
		}
	})
}

// TestDoor: a door whose proxy does not listen refuses, and so tells a kubelet
// that merely connects the truth about the workload.
func TestDoor(t *testing.T) {
	p := newPair(t)
	spec := pod
	spec.Doors = map[uint16]uint16{6379: 15100}
	if err := Apply(int(p.workload), spec); err != nil {
		t.Fatal(err)
	}
	in := listen(t, p.workload, "tcp", ":15006")
	for _, addr := range []string{"10.9.0.2:6379", "[fd09::2]:6379"} {
		if _, err := dial(p.outside, net.Dialer{}, addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s behind a closed door: %v, want a refused connection", addr, err)
		}
		arrives(t, p.outside, net.Dialer{}, strings.Replace(addr, ":6379", ":6380", 1), in)
	}
	door := listen(t, p.workload, "tcp", ":15100")
	arrives(t, p.outside, net.Dialer{}, "10.9.0.2:6379", door)
}

// TestExemptUser: sockets of the sidecar's user go past it, those of the
// workload's do not. In the namespace of a pod the sidecar has no mark to set.
func TestExemptUser(t *testing.T) {
	p := newPair(t)
	if os.Getenv(mapped) == "" {
		const why = "needs root: nobody else may map user 1337 into a user namespace"
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	if err := Apply(int(p.workload), pod); err != nil {
		t.Fatal(err)
	}
	out := listen(t, p.workload, "tcp", ":15001")
	in := listen(t, p.workload, "tcp", ":15006")
	listen(t, p.outside, "tcp", ":80")
	listen(t, p.workload, "tcp", ":8080")
	// Of the last one the workload is itself the endpoint: its sidecar dials the
	// pod's own address, and no sidecar is in between.
	for _, addr := range []string{"10.9.0.1:80", "[fd09::1]:80", "10.9.0.2:8080"} {
		conn, err := dialAs(p.workload, sidecarUser, addr)
		if err != nil {
			t.Fatalf("dial %s as the sidecar: %v", addr, err)
		}
		refuteAccept(t, conn, in, out)
		conn.Close()
	}
	for _, addr := range []string{"10.9.0.1:80", "[fd09::1]:80"} {
		arrives(t, p.workload, net.Dialer{}, addr, out)
	}
}

// TestWithoutIPv6 is a pod on a node that has IPv6 switched off.
func TestWithoutIPv6(t *testing.T) {
	p := newPair(t)
	for _, ns := range []netns.NsHandle{p.workload, p.outside} {
		var err error
		onThread(func() {
			if err = netns.Set(ns); err != nil {
				return
			}
			// What is here depends on the namespace of the thread that opens it.
			err = os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := dial(p.workload, net.Dialer{}, "[fd09::1]:80"); err == nil {
		t.Fatal("IPv6 is still there")
	}
	spec := pod
	spec.Doors = map[uint16]uint16{6379: 15100}
	spec.ExcludeCIDRs = []netip.Prefix{netip.MustParsePrefix("fd00::/8")}
	if err := Apply(int(p.workload), spec); err != nil {
		t.Fatal(err)
	}
	out := listen(t, p.workload, "tcp", ":15001")
	in := listen(t, p.workload, "tcp", ":15006")
	arrives(t, p.workload, net.Dialer{}, "10.9.0.1:80", out)
	arrives(t, p.outside, net.Dialer{}, "10.9.0.2:8080", in)
}

// TestLeastPrivilege: in its own namespace Apply needs CAP_NET_ADMIN and nothing
// else, and without it says so.
func TestLeastPrivilege(t *testing.T) {
	p := newPair(t)
	var with, without error
	onThread(func() {
		if with = netns.Set(p.workload); with != nil {
			return
		}
		if with = keep(unix.CAP_NET_ADMIN); with == nil {
			with = Apply(-1, pod)
		}
		if without = keep(); without == nil {
			without = Apply(-1, pod)
		}
	})
	if with != nil {
		t.Errorf("with CAP_NET_ADMIN: %v", with)
	}
	const want = "capture: apply the ruleset: "
	if without == nil || !strings.HasPrefix(without.Error(), want) || !strings.HasSuffix(without.Error(), " (CAP_NET_ADMIN over the network namespace is needed)") {
		t.Errorf("without: %v", without)
	}
	if got, want := countRules(t, int(p.workload)), len(pod.Rules()); got != want {
		t.Errorf("%d rules, want %d", got, want)
	}
}

// dialAs dials with a socket of the user.
func dialAs(ns netns.NsHandle, user int, addr string) (c net.Conn, err error) {
	onThread(func() {
		if err = netns.Set(ns); err != nil {
			return
		}
		// Of this thread only; syscall.Setuid is for all of them.
		if _, _, no := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(user), uintptr(user), uintptr(user)); no != 0 {
			err = no
			return
		}
		c, err = net.Dial("tcp", addr)
	})
	return c, err
}

// keep drops all capabilities of the thread but those given (below 32).
func keep(caps ...int) error {
	var data [2]unix.CapUserData
	for _, c := range caps {
		data[0].Effective |= 1 << c
	}
	data[0].Permitted = data[0].Effective
	return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
}

// arrives dials and sees that the connection comes out at the listener, with
// the address it was made to; or, when that is nil, at none of the others.
func arrives(t *testing.T, from netns.NsHandle, d net.Dialer, addr string, at net.Listener, others ...net.Listener) {
	t.Helper()
	conn, err := dial(from, d, addr)
	if err != nil {
		t.Fatalf("dial %s: %v", addr, err)
	}
	defer conn.Close()
	if at == nil {
		refuteAccept(t, conn, others...)
		return
	}
	got := accept(t, at)
	defer got.Close()
	dst, err := OriginalDst(got)
	if err != nil {
		t.Fatalf("%s came out at %s: %v", addr, at.Addr(), err)
	}
	if dst.String() != addr {
		t.Errorf("original destination %s, want %s", dst, addr)
	}
	if _, port, _ := net.SplitHostPort(at.Addr().String()); port != strconv.Itoa(got.LocalAddr().(*net.TCPAddr).Port) {
		t.Errorf("%s came out at %s", addr, got.LocalAddr())
	}
}
