package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"hasp/mesh"
)

// sockets is a fake of the kernel's table of who listens.
type sockets struct {
	mu  sync.Mutex
	at  map[netip.AddrPort]bool
	err error
}

func (s *sockets) set(at string, listens bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[netip.MustParseAddrPort(at)] = listens
}

func (s *sockets) listening(at netip.AddrPort) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[at], s.err
}

// freeRange is the first of n ports as freePort has them.
func freeRange(t *testing.T, n int) uint16 {
	t.Helper()
next:
	for range 100 {
		first := int(freePort(t))
		for i := range n {
			l, err := net.Listen("tcp", ":"+strconv.Itoa(first+i))
			if err != nil {
				continue next
			}
			l.Close()
		}
		return uint16(first)
	}
	t.Fatal("no free ports")
	return 0
}

func TestDoors(t *testing.T) {
	workload := app(t, echo)
	other := app(t, greeter)
	if workload.Port() > other.Port() {
		workload, other = other, workload
	}
	first := freeRange(t, 2)
	s := &sockets{at: make(map[netip.AddrPort]bool)}
	n := newNode(t, newTestCA(t), "boards", "127.0.0.9", func(c *Config) {
		c.ProbeDoor, c.Listening = first, s.listening
		c.Addresses = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("10.0.0.7")}, nil }
		c.Probes = []mesh.Probe{
			{Kind: mesh.ProbeTCP, Port: other.Port()}, {Kind: mesh.ProbeTCP, Port: workload.Port()},
			{Kind: mesh.ProbeTCP, Port: workload.Port()}, {Kind: mesh.ProbeHTTP, Port: 1, Path: "/"},
		}
	})
	n.apply(inboundConfig(workload.Port(), mesh.ModeStrict, mesh.TCP))
	n.dst.Store(first, workload)
	n.dst.Store(first+1, other)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.serveDoors(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	v4, v6 := "127.0.0.1:"+strconv.Itoa(int(first)), "[::1]:"+strconv.Itoa(int(first))
	second := "127.0.0.1:" + strconv.Itoa(int(first)+1)
	untilConnect(t, v4, false)
	all, one := "0.0.0.0:"+strconv.Itoa(int(workload.Port())), "10.0.0.7:"+strconv.Itoa(int(workload.Port()))

	s.set(all, true)
	untilConnect(t, v4, true)
	n.row(func(c mesh.Connection) bool {
		return ended(c) && c.Security == mesh.Probed && c.Allowed && c.Why == "TCP probe: the client said nothing" && c.Destination == workload
	})
	untilConnect(t, v6, false)
	untilConnect(t, second, false)

	// A connection through the door is judged as any other.
	if got, err := call(t, "127.0.0.7", netip.MustParseAddrPort(v4), "ping"); got != "" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("plaintext through the door: %q, %v", got, err)
	}
	n.apply(inboundConfig(workload.Port(), mesh.ModePermissive, mesh.TCP))
	c := dial(t, "127.0.0.7", netip.MustParseAddrPort(v4))
	io.WriteString(c, "ping")
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}

	s.set(all, false)
	untilConnect(t, v4, false)
	io.WriteString(c, "pong") // what came through stays
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Error(err)
	}

	// One address of the pod is enough; a second opening works as the first.
	s.set(one, true)
	untilConnect(t, v4, true)
	s.set(one, false)
	untilConnect(t, v4, false)
	s.set("[::]:"+strconv.Itoa(int(workload.Port())), true)
	untilConnect(t, v6, true)

	// A kernel that does not say: the door stands open.
	s.mu.Lock()
	s.err = errors.New("no sock_diag")
	s.mu.Unlock()
	untilConnect(t, second, true)
}

// untilConnect waits until a connect works, or is refused.
func untilConnect(t *testing.T, at string, want bool) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var c net.Conn
		if c, err = net.Dial("tcp", at); err == nil {
			c.Close()
		}
		if (err == nil) == want {
			return
		}
	}
	t.Fatalf("connect to %s: %v, want it to work: %v", at, err, want)
}

// A door's own port, dialled from outside, would loop.
func TestDoorIsTheProxysOwnPort(t *testing.T) {
	n := newNode(t, newTestCA(t), "boards", "127.0.0.9", func(c *Config) {
		c.Probes = []mesh.Probe{{Kind: mesh.ProbeTCP, Port: 8080}, {Kind: mesh.ProbeTCP, Port: 9090}}
		c.OwnPorts = []uint16{15001, 15006}
	})
	n.apply(inboundConfig(8080, mesh.ModeDisable, mesh.TCP))
	at := n.inboundFor(netip.MustParseAddrPort("127.0.0.9:15101"))
	if _, err := call(t, "127.0.0.7", at, "ping"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	if f := n.row(ended); f.Why != "127.0.0.9:15101 is the proxy's own port and the connection would loop" {
		t.Errorf("why %q", f.Why)
	}
}

func TestMoreTCPProbesThanDoors(t *testing.T) {
	var list []mesh.Probe
	for i := range mesh.MaxProbeDoors + 3 {
		list = append(list, mesh.Probe{Kind: mesh.ProbeTCP, Port: uint16(9000 - i)})
	}
	ps, err := newProbes(list)
	if err != nil || len(ps.doors) != mesh.MaxProbeDoors || ps.doors[0] != uint16(9000-len(list)+1) {
		t.Errorf("%d doors, the first for %d, %v", len(ps.doors), ps.doors[0], err)
	}
}
