package proxy

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"hasp/mesh"
)

// Strangers from tens of thousands of addresses, some of whom are let in: the
// workload's friends are served meanwhile, and what the proxy remembers of all
// that has a bound.
func TestProxyUnderFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("makes tens of thousands of connections")
	}
	const strangers, workers = 30_000, 16
	m := newLab(t, mesh.ModePermissive, echo, func(c *Config) { c.AccessLog = nil }) // which the test would keep
	shut := m.app.Port() + 1
	if shut == 0 {
		shut = 1
	}
	c := inboundConfig(m.app.Port(), mesh.ModePermissive, mesh.TCP)
	c.Inbound.Ports = append(c.Inbound.Ports, inboundConfig(shut, mesh.ModeStrict, mesh.TCP).Inbound.Ports...)
	c.Peers = []mesh.Peer{{Addr: m.client.addr, Workload: "shop/app-ui", Identity: m.client.spiffe, Sidecar: true}}
	m.server.apply(c)
	closed := m.server.inboundFor(netip.AddrPortFrom(m.app.Addr(), shut))
	friend := m.client.outboundTo(vip)
	talk(t, "127.0.0.5", friend).Close()
	before := heap()

	ctx, cancel := context.WithCancel(context.Background())
	var asked atomic.Int64
	var friends, flood sync.WaitGroup
	friends.Go(func() {
		for ctx.Err() == nil {
			if got, err := call(t, "127.0.0.5", friend, "ping"); got != "ping" || err != nil {
				t.Errorf("a friend: %q, %v", got, err)
				return
			}
			asked.Add(1)
		}
	})
	for w := range workers {
		flood.Go(func() {
			for i := w; i < strangers; i += workers {
				from := net.IPv4(127, byte(1+i>>16), byte(i>>8), byte(i))
				open := i%8 == 0
				to := closed
				if open {
					to = m.at
				}
				got, err := call(t, from.String(), to, "hello")
				if open && (got != "hello" || err != nil) || !open && got != "" {
					t.Errorf("stranger %d: %q, %v", i, got, err)
				}
				if i%1000 == 0 {
					m.server.Facts().Report(false) // as in service
				}
			}
		})
	}
	flood.Wait()
	cancel()
	friends.Wait()
	until(t, "all have ended", func() bool { return m.server.table.size() == 0 })
	if held := heap() - before; held > 16<<20 {
		t.Errorf("%d KiB are held", held>>10)
	}
	if asked.Load() == 0 {
		t.Error("no friend was served")
	}
	m.server.ledger.tellAll()
	lines, _ := m.server.ledger.news("shop/boards", 1<<20)
	var total uint64
	for _, e := range lines {
		if e.Peer == "" {
			total += e.Connections
		} else if e.Connections != uint64(asked.Load())+1 {
			t.Errorf("%d connections of the friend, want %d", e.Connections, asked.Load()+1)
		}
	}
	if total != strangers || len(lines) > maxStrangerLines+maxNetworkLines+4 {
		t.Errorf("%d connections of strangers in %d lines", total, len(lines))
	}
	t.Logf("%d friends were served meanwhile", asked.Load())
	if d := m.server.Facts().Report(false).Dropped; d == 0 {
		t.Error("every stranger was told of singly")
	}
}
