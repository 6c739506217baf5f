package memory

import (
	"flag"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"hasp/capture"
)

// Addresses of the two workloads. The control plane is beside the client.
var (
	clientAddr = netip.MustParseAddr("10.9.0.1")
	serverAddr = netip.MustParseAddr("10.9.0.2")
)

const (
	planePort = 15012
	appPort   = 8080
	mark      = 1337

	inside = "HASP_MEMORY_TEST_INSIDE"
)

// TestMain runs the test again in a user and network namespace of its own, so
// that it needs no privilege and cannot touch the host.
func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		flag.Parse()
		// They wait nearly all the time.
		if err := flag.Set("test.parallel", "4"); err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	if err := cmd.Start(); err != nil {
		os.Exit(m.Run()) // each test says what is missing
	}
	if err := cmd.Wait(); err != nil {
		os.Exit(1)
	}
}

// wire is a namespace for the client and one for the server; they are joined, and
// what is said there is captured.
func wire(t *testing.T) (client, server netns.NsHandle) {
	t.Helper()
	if os.Getenv(inside) == "" {
		const why = "no user namespaces here (user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	must := func(err error) {
		if t.Helper(); err != nil {
			t.Fatal(err)
		}
	}
	fresh := func() (ns netns.NsHandle) {
		var err error
		onThread(func() { ns, err = netns.New() })
		must(err)
		t.Cleanup(func() { ns.Close() })
		return ns
	}
	client, server = fresh(), fresh()
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "eth0", PeerNamespace: netlink.NsFd(int(server))}
	veth.Name = "eth0"
	clients, err := netlink.NewHandleAt(client)
	must(err)
	defer clients.Close()
	must(clients.LinkAdd(veth)) // it goes with its namespaces
	for _, end := range []struct {
		ns   netns.NsHandle
		addr netip.Addr
	}{{client, clientAddr}, {server, serverAddr}} {
		h, err := netlink.NewHandleAt(end.ns)
		must(err)
		defer h.Close()
		for _, name := range []string{"lo", "eth0"} {
			link, err := h.LinkByName(name)
			must(err)
			must(h.LinkSetUp(link))
			if name == "eth0" {
				must(h.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: end.addr.AsSlice(), Mask: net.CIDRMask(24, 32)}}))
			}
		}
		must(capture.Apply(int(end.ns), capture.Spec{
			OutboundPort: 15001, InboundPort: 15006, ExemptMark: mark, ExcludeInboundPorts: []uint16{planePort, 15021, 15090},
		}))
		t.Cleanup(func() { _ = capture.Remove(int(end.ns)) })
		// Many short connections: their ports come back soon.
		in(end.ns, func() {
			for name, value := range map[string]string{"ip_local_port_range": "16000 65000", "tcp_tw_reuse": "1"} {
				if err = os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
					break
				}
			}
		})
		must(err)
	}
	return client, server
}

// in runs f in a namespace.
func in(ns netns.NsHandle, f func()) {
	onThread(func() {
		if err := netns.Set(ns); err != nil {
			panic(err) // the handle is open and ours
		}
		f()
	})
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
