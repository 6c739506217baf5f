package capture

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	inside = "HASP_CAPTURE_TEST_INSIDE"
	mapped = "HASP_CAPTURE_TEST_MAPPED" // sidecarUser exists inside
)

// sidecarUser is the user of the sidecar in the tests of ExemptUID.
const sidecarUser = 1337

// TestMain runs the whole test again in a user and network namespace of its
// own, so that it needs no privilege and cannot touch the host.
func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if os.Getuid() == 0 { // who is not may map nobody else
		cmd.SysProcAttr.UidMappings = append(cmd.SysProcAttr.UidMappings, syscall.SysProcIDMap{ContainerID: sidecarUser, HostID: sidecarUser, Size: 1})
		cmd.Env = append(cmd.Env, mapped+"=1")
	}
	if err := cmd.Start(); err != nil {
		// The pure tests still run; those that need a namespace say so.
		os.Exit(m.Run())
	}
	if err := cmd.Wait(); err != nil {
		os.Exit(1)
	}
}

// pair is two namespaces joined by a wire: workload (10.9.0.2, fd09::2) and
// outside (10.9.0.1, fd09::1).
type pair struct{ workload, outside netns.NsHandle }

func newPair(t *testing.T) pair {
	t.Helper()
	if os.Getenv(inside) == "" {
		const why = "no user namespaces here (user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	p := pair{newNS(t), newNS(t)}
	h := handle(t, p.workload)
	la := netlink.NewLinkAttrs()
	la.Name = "eth0"
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: la, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(p.outside))}); err != nil {
		t.Fatal(err)
	}
	configure(t, h, "10.9.0.2/24", "fd09::2/64")
	configure(t, handle(t, p.outside), "10.9.0.1/24", "fd09::1/64")
	return p
}

func handle(t *testing.T, ns netns.NsHandle) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func configure(t *testing.T, h *netlink.Handle, addrs ...string) {
	t.Helper()
	for _, name := range []string{"lo", "eth0"} {
		link, err := h.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		if name == "lo" {
			continue
		}
		for _, s := range addrs {
			a, err := netlink.ParseAddr(s)
			if err != nil {
				t.Fatal(err)
			}
			a.Flags |= unix.IFA_F_NODAD
			if err := h.AddrAdd(link, a); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func newNS(t *testing.T) netns.NsHandle {
	t.Helper()
	var ns netns.NsHandle
	var err error
	onThread(func() { ns, err = netns.New() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// onThread runs f on a thread that is thrown away afterwards.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		f()
	}()
	<-done
}

func listen(t *testing.T, ns netns.NsHandle, network, addr string) net.Listener {
	t.Helper()
	var l net.Listener
	var err error
	onThread(func() {
		if err = netns.Set(ns); err == nil {
			l, err = net.Listen(network, addr)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(ns netns.NsHandle, d net.Dialer, addr string) (c net.Conn, err error) {
	onThread(func() {
		if err = netns.Set(ns); err == nil {
			c, err = d.Dial("tcp", addr)
		}
	})
	return c, err
}
