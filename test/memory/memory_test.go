package memory

import (
	"flag"
	"net"
	"testing"

	"hasp/mesh"
)

var (
	short  = flag.Int("connections", 20_000, "short connections")
	silent = flag.Int("silent", 3000, "silent connections at a time")
)

// What is bounded is a process's own memory. How much of its program is mapped
// differs by megabytes: a fault maps what the kernel has in its cache.

// TestIdleSidecar: what a sidecar costs that has nothing to do.
func TestIdleSidecar(t *testing.T) {
	t.Parallel()
	const most = 9 << 20
	m := settled(t, single(t, mesh.HTTP))[0]
	t.Logf("an idle sidecar: %s", m)
	if m.Anonymous > most {
		t.Errorf("an idle sidecar takes %s of its own, want at most %s", mib(m.Anonymous), mib(most))
	}
}

// TestShortConnections: nothing is left of connections that ended. What there is
// after a quarter of them is tables that are full.
func TestShortConnections(t *testing.T) {
	t.Parallel()
	p := newPair(t, mesh.TCP)
	first := *short / 4
	p.short(t, first)
	var heap [2]int
	before := settled(t, p.both()...)
	for i, s := range p.both() {
		heap[i] = s.heap(t)
	}
	p.short(t, *short-first)
	for i, after := range settled(t, p.both()...) {
		s := p.both()[i]
		live := s.heap(t)
		t.Logf("%s after %d connections: %s, heap %s; after %d: %s, heap %s",
			s.name, first, before[i], mib(heap[i]), *short, after, mib(live))
		if live > heap[i]+heap[i]/20+256<<10 {
			t.Errorf("%s: %s are live in the heap, were %s", s.name, mib(live), mib(heap[i]))
		}
		// What it has grown by it gives back once that is a MiB and an eighth of all.
		if after.Anonymous > before[i].Anonymous+before[i].RSS/8+2<<20 {
			t.Errorf("%s: takes %s of its own, took %s", s.name, mib(after.Anonymous), mib(before[i].Anonymous))
		}
	}
}

// TestSilentConnections: what a connection costs a pair that says nothing, with
// either relay.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		relay string
		most  float64 // KiB
	}{
		{"fast", 8},
		{"portable", 65},
	} {
		t.Run(tc.relay, func(t *testing.T) {
			t.Parallel()
			if kib := silentCost(t, tc.relay); kib > tc.most {
				t.Errorf("a silent connection costs a pair %.1f KiB, want at most %.0f", kib, tc.most)
			}
		})
	}
}

// silentCost is the KiB of both sidecars for each of their silent connections.
func silentCost(t *testing.T, relay string) (sum float64) {
	p := newPair(t, mesh.HTTP, "--relay="+relay)
	p.short(t, 100) // buffers and tables that are there once
	before := settled(t, p.both()...)
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range *silent {
		c, err := p.dial()
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for i, during := range settled(t, p.both()...) {
		kib := float64(during.Anonymous-before[i].Anonymous) / 1024 / float64(*silent)
		t.Logf("%s: %s, with %d silent connections %s: %.1f KiB each", p.both()[i].name, before[i], *silent, during, kib)
		sum += kib
	}
	t.Logf("a silent connection of the pair, with the %s relay: %.1f KiB", relay, sum)
	for _, c := range conns { // they live
		if err := say(c); err != nil {
			t.Fatal(err)
		}
	}
	return sum
}
