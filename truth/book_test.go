package truth_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hasp/mesh"
	"hasp/truth"
)

var compareValues = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}), cmpopts.IgnoreUnexported(truth.Facts{})}

// TestAboutItself: whatever a report says, it ends up being about its reporter.
func TestAboutItself(t *testing.T) {
	w := build(t, town)
	b := truth.NewBook(truth.Limits{})
	out, in := both(traced("a"), noon)
	out.LocalIdentity, out.PeerWorkload, out.Source, out.Local = id("admin"), "shop/legacy-1", addr("10.0.0.9:1"), addr("10.0.0.3:2")
	in.ID, in.LocalIdentity, in.PeerWorkload, in.Source, in.Destination = 2, id("admin"), "shop/api-1", addr("10.9.9.9:1"), addr("10.0.0.2:8080")
	e := outEdge(mesh.MutualTLS, noon, noon, 1)
	e.Node, e.Handshake.LocalIdentity = "shop/api-1", id("admin")
	ghost := outEdge(mesh.Plaintext, noon, noon, 1)
	ghost.Peer, ghost.Direction = "shop/ghost-1", mesh.InboundDir
	known := inEdge("10.0.0.3/32", mesh.Plaintext, noon, noon, 1)
	sideways := outEdge(mesh.Plaintext, noon, noon, 1)
	sideways.Direction = "sideways"
	take(t, b, w, report("web-1", noon, []mesh.Connection{out, in}, e, ghost, known, sideways), noon)
	f := b.Facts(7, noon)
	for _, c := range f.Connections {
		if c.Node != "shop/web-1" || c.LocalIdentity != id("web") {
			t.Errorf("%s says it is %s", c.Node, c.LocalIdentity)
		}
		switch c.Direction {
		case mesh.OutboundDir:
			if c.Source != addr("10.0.0.1:1") || c.Local != addr("10.0.0.1:2") || c.PeerWorkload != "shop/api-1" {
				t.Errorf("outbound from %s, %s to %q", c.Source, c.Local, c.PeerWorkload)
			}
		case mesh.InboundDir:
			if c.Destination != addr("10.0.0.1:8080") || c.PeerWorkload != "" {
				t.Errorf("inbound to %s from %q", c.Destination, c.PeerWorkload)
			}
		}
	}
	var got []string
	for _, e := range f.Edges {
		got = append(got, fmt.Sprintf("%s %s %q", e.Node, e.Direction, e.Peer))
		if e.Handshake != nil && e.Handshake.LocalIdentity != id("web") {
			t.Errorf("a handshake as %s", e.Handshake.LocalIdentity)
		}
	}
	want := []string{`shop/web-1 inbound ""`, `shop/web-1 inbound "shop/legacy-1"`, `shop/web-1 outbound "shop/api-1"`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestRefused: reports that are of nobody, or of somebody else.
func TestRefused(t *testing.T) {
	w := build(t, town)
	for want, r := range map[string]*mesh.Report{
		`truth: a report of "web", which is no NAMESPACE/NAME`:                                        {Node: "web", Identity: id("web")},
		`truth: "" reports for shop/web-1, of another namespace`:                                      {Node: "shop/web-1"},
		`truth: "spiffe://cluster.local/ns/away/sa/web" reports for shop/web-1, of another namespace`: {Node: "shop/web-1", Identity: mesh.Identity("cluster.local", "away", "web")},
		`truth: "spiffe://cluster.local/ns/shop/sa/api" reports for shop/web-1, whose account is web`: {Node: "shop/web-1", Identity: id("api")},
	} {
		b := truth.NewBook(truth.Limits{})
		if err := b.Take(w, r, noon); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		if f := b.Facts(1, noon); len(f.Proxies) > 0 || f.Version > 0 {
			t.Errorf("%s: something was taken", want)
		}
	}
}

// TestSums: what a line's sums become, told in two reports.
func TestSums(t *testing.T) {
	type told struct {
		at, first, last time.Duration
		n               uint64
	}
	for name, c := range map[string]struct {
		first, second told
		want          uint64
	}{
		"more of the same beginning":            {told{3, 0, 1, 5}, told{4, 0, 2, 8}, 8},
		"the same again":                        {told{3, 0, 1, 5}, told{4, 0, 1, 5}, 5},
		"overtaken by a newer report":           {told{4, 0, 2, 8}, told{3, 0, 1, 5}, 8},
		"a connection taken back":               {told{3, 0, 1, 5}, told{4, 0, 1, 4}, 4},
		"all of them taken back":                {told{3, 0, 1, 1}, told{4, 0, 1, 0}, 0},
		"forgotten, begun anew":                 {told{3, 0, 1, 5}, told{4, 2, 3, 3}, 8},
		"a report from before it was forgotten": {told{4, 2, 3, 3}, told{3, 0, 1, 5}, 3},
		"a clock set back":                      {told{time.Hour, time.Hour, time.Hour, 5}, told{4, 1, 2, 3}, 8},
		"as many as there can be":               {told{3, 0, 1, 1<<64 - 1}, told{4, 2, 3, 3}, 1<<64 - 1},
	} {
		w := build(t, town)
		b := truth.NewBook(truth.Limits{})
		for i, r := range []told{c.first, c.second} {
			take(t, b, w, report("web-1", after(r.at), nil, outEdge(mesh.MutualTLS, after(r.first), after(r.last), r.n)), after(time.Duration(10+i)))
		}
		f := b.Facts(7, after(20))
		if c.want == 0 {
			if len(f.Edges) > 0 {
				t.Errorf("%s: %d lines", name, len(f.Edges))
			}
			continue
		}
		if len(f.Edges) != 1 || f.Edges[0].Connections != c.want {
			t.Errorf("%s: %d connections in %d lines, want %d", name, f.Edges[0].Connections, len(f.Edges), c.want)
		}
		if e := f.Edges[0]; e.First.After(f.At) || e.Last.After(f.At) {
			t.Errorf("%s: in the future: %s %s", name, e.First, e.Last)
		}
	}
}

// TestClocks: times are by our clock, whatever the proxy's says.
func TestClocks(t *testing.T) {
	w := build(t, town)
	b := truth.NewBook(truth.Limits{Days: 1})
	ahead := after(time.Hour)
	out, _ := both(traced("a"), ahead.Add(-time.Minute))
	out.LastSeen = ahead.Add(time.Hour) // even by its own clock in the future
	take(t, b, w, report("web-1", ahead, []mesh.Connection{out}, outEdge(mesh.MutualTLS, ahead.Add(-72*time.Hour), ahead.Add(-time.Second), 1)), noon)
	f := b.Facts(7, noon)
	c, e := f.Connections[0], f.Edges[0]
	if !c.Start.Equal(after(-time.Minute)) || !c.LastSeen.Equal(noon) || !e.First.Equal(after(-24*time.Hour)) || !e.Last.Equal(after(-time.Second)) {
		t.Errorf("connection %s to %s, line %s to %s", c.Start, c.LastSeen, e.First, e.Last)
	}
	if f.Proxies[0].Skew != time.Hour {
		t.Errorf("skew %s", f.Proxies[0].Skew)
	}
}

// TestLives: what lives, ends and comes again.
func TestLives(t *testing.T) {
	w := build(t, town)
	b := truth.NewBook(truth.Limits{})
	row := func(id uint64, end time.Duration) mesh.Connection {
		c, _ := both(traced(fmt.Sprint(id)), noon)
		c.ID, c.LastSeen = id, after(time.Second)
		if end > 0 {
			c.End = after(end)
		}
		return c
	}
	shows := func(step, want string) {
		t.Helper()
		var live, ended []string
		for _, c := range b.Facts(7, after(time.Minute)).Connections {
			if s := fmt.Sprint(c.ID); c.End.IsZero() {
				live = append(live, s)
			} else {
				ended = append(ended, fmt.Sprintf("%s@%s", s, c.End.Sub(noon)))
			}
		}
		if got := strings.Join(live, " ") + " | " + strings.Join(ended, " "); got != want {
			t.Errorf("%s: %s, want %s", step, got, want)
		}
	}
	now := after(10 * time.Second)
	tell := func(whole bool, start time.Time, conns ...mesh.Connection) {
		t.Helper()
		r := report("web-1", now, conns)
		r.Whole, r.Start = whole, start
		take(t, b, w, r, now)
	}
	old, young := after(-time.Hour), after(-time.Minute)
	tell(true, old, row(1, 0), row(2, 0), row(3, 0))
	shows("three began", "3 2 1 | ")
	tell(false, old, row(1, 5*time.Second))
	shows("one ended", "3 2 | 1@5s")
	tell(false, old, row(1, 0))
	shows("an overtaken report does not wake it", "3 2 | 1@5s")
	b.Gone("shop/web-1", now)
	shows("the stream ended", " | 3@1s 2@1s 1@5s")
	if r := b.Facts(7, now).Proxies[0]; r.Connected {
		t.Error("still connected")
	}
	tell(true, old, row(1, 5*time.Second), row(2, 0))
	shows("it came back with one", "2 | 3@1s 1@5s")
	tell(true, old, row(4, 0))
	shows("a whole report has not the other", "4 | 3@1s 2@1s 1@5s")
	many := make([]mesh.Connection, mesh.ReportConnections)
	for i := range many {
		many[i] = mesh.Connection{ID: uint64(1000 + i)} // no direction: nothing is made of them
	}
	tell(true, old, many...)
	shows("a whole report that goes on", "4 | 3@1s 2@1s 1@5s")
	tell(false, old, row(5, 0))
	shows("and ends", "5 | 4@1s 3@1s 2@1s 1@5s")
	tell(true, young, row(1, 0))
	shows("a new process begins its numbers anew", "1 | 5@1s 4@1s 3@1s 2@1s 1@5s")
}

// TestFlood: 250,000 peers and connections of one proxy take the room of
// one proxy and nothing of the others'.
func TestFlood(t *testing.T) {
	w := build(t, town)
	b := truth.NewBook(truth.Limits{})
	out, in := both(traced("a"), noon)
	take(t, b, w, report("web-1", noon, []mesh.Connection{out}, outEdge(mesh.MutualTLS, noon, noon, 1)), noon)
	legacy := inEdge("shop/legacy-1", mesh.Plaintext, after(-time.Hour), after(-time.Hour), 3)
	take(t, b, w, report("api-1", noon, []mesh.Connection{in}, legacy), noon)
	before := b.Facts(7, noon)

	size := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var half uint64
	reports, each := 500, 500
	if testing.Short() {
		reports = 200
	}
	for n := range reports {
		now := after(time.Duration(n) * time.Second)
		r := report("api-1", now, nil)
		for i := range each {
			k := n*each + i
			a := netip.AddrFrom4([4]byte{172, byte(k >> 16), byte(k >> 8), byte(k)})
			r.Edges = append(r.Edges, inEdge(netip.PrefixFrom(a, 32).String(), mesh.Plaintext, now, now, 1))
			c := in
			c.ID, c.Source, c.Start, c.LastSeen, c.Trace = uint64(k+10), netip.AddrPortFrom(a, 1), now, now, ""
			if c.Why = strings.Repeat("w", 5000); k%2 == 0 {
				c.End = now
			}
			r.Connections = append(r.Connections, c)
		}
		take(t, b, w, r, now)
		if n == reports/2 {
			half = size()
		}
	}
	if end := size(); end > half+half/4 {
		t.Errorf("the heap went from %d at half the flood to %d at its end", half, end)
	}
	f := b.Facts(7, after(time.Duration(reports)*time.Second))
	if n := len(edgesOf(f, "shop/api-1")); n > 2048 {
		t.Errorf("%d lines", n)
	}
	if n := len(f.Connections); n > 4096+256+1 {
		t.Errorf("%d connections", n)
	}
	if f.Forgotten < uint64(reports*each)*9/10 {
		t.Errorf("only %d lines are said to be forgotten", f.Forgotten)
	}
	if diff := cmp.Diff(edgesOf(before, "shop/web-1"), edgesOf(f, "shop/web-1"), compareValues); diff != "" {
		t.Errorf("another proxy's ledger (-before +after)\n%s", diff)
	}
	found := false
	for _, c := range f.Connections {
		found = found || c.Node == "shop/web-1" && c.End.IsZero()
		if len(c.Why) > 256 {
			t.Fatalf("%d bytes of why", len(c.Why))
		}
	}
	if !found {
		t.Error("another proxy's connection is gone")
	}
	named := false
	for _, e := range f.Edges {
		named = named || e.Peer == "shop/legacy-1"
	}
	if !named {
		t.Error("the line of a workload went before those of addresses")
	}
}

// TestShares: where all is full, who has least is not who gives way.
func TestShares(t *testing.T) {
	w := build(t, town)
	b := truth.NewBook(truth.Limits{Edges: 20, Connections: 20})
	fill := func(node string, from, n int) {
		r := report(node, noon, nil)
		for i := range n {
			a := netip.AddrFrom4([4]byte{172, 0, byte(from), byte(i)})
			r.Edges = append(r.Edges, inEdge(netip.PrefixFrom(a, 32).String(), mesh.Plaintext, noon, noon, 1))
			_, c := both("", noon)
			c.ID, c.Source = uint64(from*1000+i+1), netip.AddrPortFrom(a, 1)
			r.Connections = append(r.Connections, c)
		}
		take(t, b, w, r, noon)
	}
	count := func() (lines, rows [2]int) {
		f := b.Facts(7, noon)
		for _, e := range f.Edges {
			lines[map[string]int{"shop/web-1": 0, "shop/api-1": 1}[e.Node]]++
		}
		for _, c := range f.Connections {
			rows[map[string]int{"shop/web-1": 0, "shop/api-1": 1}[c.Node]]++
		}
		return
	}
	fill("web-1", 1, 30)
	fill("api-1", 2, 8)
	lines, rows := count()
	if lines[1] != 8 || rows[1] != 8 || lines[0]+lines[1] > 20 || rows[0]+rows[1] > 20 {
		t.Errorf("a small one has %d lines and %d rows, the big one %d and %d", lines[1], rows[1], lines[0], rows[0])
	}
	fill("web-1", 3, 30)
	if l, r := count(); l[1] != 8 || r[1] != 8 {
		t.Errorf("a flood left the small one %d lines and %d rows", l[1], r[1])
	}
}

// TestProxies: the one longest gone makes room, one that is there does not.
func TestProxies(t *testing.T) {
	w := build(t, town)
	b := truth.NewBook(truth.Limits{Proxies: 2})
	take(t, b, w, report("web-1", noon, nil, outEdge(mesh.MutualTLS, noon, noon, 1)), noon)
	take(t, b, w, report("api-1", noon, nil), noon)
	if err := b.Take(w, report("other-1", noon, nil), noon); err == nil {
		t.Error("a third was taken")
	}
	b.Gone("shop/web-1", noon)
	take(t, b, w, report("other-1", noon, nil), noon)
	if f := b.Facts(7, noon); len(f.Proxies) != 2 || len(f.Edges) != 0 || f.Forgotten != 1 {
		t.Errorf("%v, %d lines, %d forgotten", f.Proxies, len(f.Edges), f.Forgotten)
	}
}

// TestLedger: what is saved and loaded goes on as if nothing had been.
func TestLedger(t *testing.T) {
	w := build(t, town)
	first := truth.NewBook(truth.Limits{})
	take(t, first, w, report("web-1", noon, nil, outEdge(mesh.MutualTLS, noon, noon, 5), outEdge(mesh.Plaintext, after(-48*time.Hour), after(-30*time.Hour), 1)), noon)
	take(t, first, w, report("web-1", after(2), nil, outEdge(mesh.MutualTLS, after(1), after(2), 2)), after(2))
	raw, err := json.Marshal(first.Save())
	if err != nil {
		t.Fatal(err)
	}
	var saved truth.Ledger
	if err := json.Unmarshal(raw, &saved); err != nil {
		t.Fatal(err)
	}
	second := truth.NewBook(truth.Limits{})
	if err := second.Load(&saved, after(3)); err != nil {
		t.Fatal(err)
	}
	want, got := first.Facts(7, after(3)), second.Facts(7, after(3))
	if diff := cmp.Diff(want.Edges, got.Edges, compareValues); diff != "" {
		t.Errorf("lines (-saved +loaded)\n%s", diff)
	}
	if !want.Since.Equal(got.Since) || len(got.Proxies) != 0 {
		t.Errorf("since %s, want %s; proxies %v", got.Since, want.Since, got.Proxies)
	}
	// The workload is gone, and still has its name.
	if diff := cmp.Diff(want.Workloads, got.Workloads); diff != "" || len(got.Workloads) != 2 {
		t.Errorf("workloads (-saved +loaded)\n%s", diff)
	}
	take(t, second, w, report("web-1", after(4), nil, outEdge(mesh.MutualTLS, after(1), after(4), 3)), after(4))
	if e := second.Facts(7, after(4)).Edges[1]; e.Security != mesh.MutualTLS || e.Connections != 8 {
		t.Errorf("%s went on to %d, want 8", e.Security, e.Connections)
	}
	second.Prune(after(30*24*time.Hour - 24*time.Hour))
	if f := second.Facts(7, after(time.Hour)); len(f.Edges) != 1 || f.Edges[0].Security != mesh.MutualTLS {
		t.Errorf("%d lines after a month", len(f.Edges))
	}
	saved.Version = 2
	if err := truth.NewBook(truth.Limits{}).Load(&saved, noon); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("another version: %v", err)
	}
}

// TestVersion: it moves when something did, and only then.
func TestVersion(t *testing.T) {
	w := build(t, town)
	b := booked(t, w, "web-1")
	v := b.Facts(7, noon).Version
	take(t, b, w, report("web-1", after(time.Second), nil), after(time.Second))
	if f := b.Facts(7, after(time.Second)); f.Version != v || !f.Proxies[0].At.Equal(after(time.Second)) {
		t.Errorf("version %d, was %d; at %s", f.Version, v, f.Proxies[0].At)
	}
	take(t, b, w, report("web-1", after(2*time.Second), nil, outEdge(mesh.MutualTLS, noon, noon, 5)), after(2*time.Second))
	if f := b.Facts(7, noon); f.Version == v {
		t.Error("a line came and the version stands")
	}
}

// TestPruneConnections: facts that were made before do not keep what is dropped.
func TestPruneConnections(t *testing.T) {
	w := build(t, town)
	b := truth.NewBook(truth.Limits{})
	c := mesh.Connection{ID: 1, Direction: mesh.InboundDir, Start: noon, LastSeen: noon, End: noon}
	take(t, b, w, report("api-1", noon, []mesh.Connection{c}), noon)
	if f := b.Facts(7, noon); len(f.Connections) != 1 {
		t.Fatalf("%d connections, want 1", len(f.Connections))
	}
	late := noon.Add(31 * 24 * time.Hour)
	b.Prune(late)
	if f := b.Facts(7, late); len(f.Connections) != 0 {
		t.Errorf("%d connections after a month", len(f.Connections))
	}
}
