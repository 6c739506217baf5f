package sockmap

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/vishvananda/netlink"
)

const (
	cgroup  = "HASP_SOCKMAP_TEST_CGROUP"  // of the test that runs in a room of its own
	without = "HASP_SOCKMAP_TEST_WITHOUT" // why it does not
)

// TestMain runs the whole test again in a cgroup and a network namespace of its
// own, so that it takes no connection of anybody else.
func TestMain(m *testing.M) {
	if os.Getenv(cgroup) != "" {
		os.Exit(m.Run())
	}
	code, err := again()
	if err != nil {
		os.Setenv(without, err.Error()) // need says it
		code = m.Run()
	}
	os.Exit(code)
}

func again() (code int, err error) {
	dir, remove, err := Cgroup()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	s, err := Load(Options{Cgroup: dir})
	if err != nil {
		return 0, err
	}
	if err := s.Close(); err != nil {
		return 0, err
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), cgroup+"="+dir)
	if err := Run(cmd, dir); cmd.ProcessState == nil {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// need skips where the programs cannot be loaded.
func need(t testing.TB) {
	t.Helper()
	if why := os.Getenv(without); why != "" {
		t.Skip("no sockmap here; it needs cgroup v2, and CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN as root has them: " + why)
	}
}

// load takes new connections until end.
func load(t testing.TB, o Options) (end func()) {
	t.Helper()
	o.Cgroup = os.Getenv(cgroup)
	s, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// beyond is an address on the other side of the wire. Nobody is there.
const beyond = "10.9.0.1:8080"

// wire gives the namespace an interface besides loopback until remove:
// connections that leave by it are captured.
func wire(t testing.TB) (remove func()) {
	t.Helper()
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "wire"}, PeerName: "nowhere"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr("10.9.0.2/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(netlink.AddrAdd(link, addr), netlink.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
	return func() { netlink.LinkDel(link) }
}
