package capture

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netns"
)

// TestRedirect makes real connections, both ways and in both families, and
// looks where they end and what OriginalDst says of them.
func TestRedirect(t *testing.T) {
	p := newPair(t)
	spec := sidecar
	spec.ExcludeInboundPorts = []uint16{15021}
	spec.ExcludeOutboundPorts = []uint16{81}
	spec.ExcludeCIDRs = []netip.Prefix{netip.MustParsePrefix("10.9.0.7/32"), netip.MustParsePrefix("fd09:7::/32")}
	if err := Apply(int(p.workload), spec); err != nil {
		t.Fatal(err)
	}
	out := listen(t, p.workload, "tcp", ":15001")
	in := listen(t, p.workload, "tcp", ":15006")
	for _, addr := range []string{":8080", ":15021"} {
		listen(t, p.workload, "tcp", addr)
	}
	listen(t, p.outside, "tcp", ":80")
	listen(t, p.outside, "tcp", ":81")

	marked := net.Dialer{Control: MarkControl(1337)}
	for _, c := range []struct {
		name   string
		from   netns.NsHandle
		dialer net.Dialer
		addr   string
		at     net.Listener // nil: not redirected
	}{
		{"outbound v4", p.workload, net.Dialer{}, "10.9.0.1:80", out},
		{"outbound v6", p.workload, net.Dialer{}, "[fd09::1]:80", out},
		{"outbound to an address nobody has", p.workload, net.Dialer{}, "10.9.0.99:80", out},
		{"outbound with the mark v4", p.workload, marked, "10.9.0.1:80", nil},
		{"outbound with the mark v6", p.workload, marked, "[fd09::1]:80", nil},
		{"outbound to an excluded port", p.workload, net.Dialer{}, "10.9.0.1:81", nil},
		{"loopback", p.workload, net.Dialer{}, "127.0.0.1:8080", nil},
		{"own address", p.workload, net.Dialer{}, "10.9.0.2:8080", nil},
		{"inbound v4", p.outside, net.Dialer{}, "10.9.0.2:8080", in},
		{"inbound v6", p.outside, net.Dialer{}, "[fd09::2]:8080", in},
		{"inbound to a port nobody has", p.outside, net.Dialer{}, "10.9.0.2:9999", in},
		{"inbound to an excluded port", p.outside, net.Dialer{}, "10.9.0.2:15021", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := dial(c.from, c.dialer, c.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if c.at == nil {
				refuteAccept(t, conn, in, out)
				return
			}
			got := accept(t, c.at)
			defer got.Close()
			dst, err := OriginalDst(got)
			if err != nil {
				t.Fatal(err)
			}
			if dst.String() != c.addr {
				t.Errorf("original destination %s, want %s", dst, c.addr)
			}
		})
	}

	t.Run("outbound to an excluded range", func(t *testing.T) {
		for _, addr := range []string{"10.9.0.7:80", "[fd09:7::1]:80"} {
			// Nobody is there; with capture the dial would have succeeded.
			conn, err := dial(p.workload, net.Dialer{Timeout: 100 * time.Millisecond}, addr)
			if err == nil {
				conn.Close()
				t.Errorf("%s was redirected to %s", addr, conn.RemoteAddr())
			}
		}
	})
}

func TestOriginalDstWithoutRedirect(t *testing.T) {
	p := newPair(t)
	l := listen(t, p.workload, "tcp4", "127.0.0.1:0")
	conn, err := dial(p.workload, net.Dialer{}, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got := accept(t, l)
	defer got.Close()
	const want = "capture: original destination: the connection was not redirected"
	if dst, err := OriginalDst(got); err == nil || err.Error() != want {
		t.Errorf("OriginalDst: got %s, %v, want %s", dst, err, want)
	}
	pipe, other := net.Pipe()
	defer pipe.Close()
	defer other.Close()
	if _, err := OriginalDst(pipe); err == nil || err.Error() != "capture: original destination: a *net.pipe is no socket" {
		t.Errorf("OriginalDst of a pipe: %v", err)
	}
}

func TestApplyReplacesAndRemoves(t *testing.T) {
	p := newPair(t)
	ns := int(p.workload)
	if err := Remove(ns); err != nil {
		t.Fatalf("remove of nothing: %v", err)
	}
	for range 2 { // the second time changes nothing
		if err := Apply(ns, sidecar); err != nil {
			t.Fatal(err)
		}
		if got, want := countRules(t, ns), len(sidecar.Rules()); got != want {
			t.Fatalf("%d rules, want %d", got, want)
		}
	}
	out := listen(t, p.workload, "tcp", ":15001")
	conn, err := dial(p.workload, net.Dialer{}, "10.9.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	accept(t, out).Close()
	if err := Remove(ns); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(p.workload, net.Dialer{}, "10.9.0.1:80"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after Remove: %v, want a refused connection", err)
	}
}

// TestRulesCount sees that every rule carries a counter that counts.
func TestRulesCount(t *testing.T) {
	p := newPair(t)
	if err := Apply(int(p.workload), sidecar); err != nil {
		t.Fatal(err)
	}
	listen(t, p.workload, "tcp", ":15001")
	conn, err := dial(p.workload, net.Dialer{}, "10.9.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	var counts []uint64
	for _, r := range rulesOf(t, int(p.workload), string(Output)) {
		for _, e := range r.Exprs {
			if c, ok := e.(*expr.Counter); ok {
				counts = append(counts, c.Packets)
			}
		}
	}
	if diff := cmp.Diff([]uint64{0, 0, 1}, counts); diff != "" {
		t.Errorf("packets that each rule of output caught (-want +got):\n%s", diff)
	}
}

// TestStringIsWhatNftSays compares our text with that of nft itself.
func TestStringIsWhatNftSays(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		nft = "/usr/sbin/nft"
		if err := exec.Command(nft, "--version").Run(); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal("nft is not installed")
			}
			t.Skip("nft is not installed")
		}
	}
	p := newPair(t)
	for name, spec := range specs {
		t.Run(name, func(t *testing.T) {
			if err := Apply(int(p.workload), spec); err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			cmd := exec.Command(nft, "-s", "list", "table", "inet", Table)
			cmd.Stdout, cmd.Stderr = &b, &b
			onThread(func() {
				if err = netns.Set(p.workload); err == nil {
					err = cmd.Run()
				}
			})
			if err != nil {
				t.Fatalf("nft: %v\n%s", err, b.String())
			}
			if diff := cmp.Diff(b.String(), spec.String()); diff != "" {
				t.Errorf("ruleset (-nft +ours):\n%s", diff)
			}
		})
	}
}

func rulesOf(t *testing.T, ns int, chain string) []*nftables.Rule {
	t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(ns))
	if err != nil {
		t.Fatal(err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: Table}
	rules, err := c.GetRules(table, &nftables.Chain{Table: table, Name: chain})
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func countRules(t *testing.T, ns int) int {
	t.Helper()
	return len(rulesOf(t, ns, string(Output))) + len(rulesOf(t, ns, string(Prerouting)))
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// refuteAccept fails when one of the listeners got the connection: the other
// end of conn is then one of theirs.
func refuteAccept(t *testing.T, conn net.Conn, listeners ...net.Listener) {
	t.Helper()
	for _, l := range listeners {
		if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if c, err := l.Accept(); err == nil {
			c.Close()
			t.Errorf("connection to %s was redirected to %s", conn.RemoteAddr(), l.Addr())
		}
	}
}
