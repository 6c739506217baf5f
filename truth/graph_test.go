package truth_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hasp/mesh"
	"hasp/truth"
)

// TestGraph: a client in the mesh and one that is not, TCP and HTTP alike.
func TestGraph(t *testing.T) {
	w := build(t, town)
	b := booked(t, w, "web-1", "api-1")
	in, out := inEdge("shop/web-1", mesh.MutualTLS, noon, noon, 10), outEdge(mesh.MutualTLS, noon, noon, 10)
	plain := inEdge("shop/legacy-1", mesh.Plaintext, noon, noon, 1)
	plain.Why = "client shop/legacy-1 has no sidecar"
	refused := inEdge("192.0.2.1/32", mesh.Plaintext, noon, noon, 1)
	refused.Allowed, refused.Why = false, "no"
	// What hasp tries itself is nobody's traffic.
	tried := inEdge("10.77.0.1/32", mesh.MutualTLS, noon, noon, 1)
	tried.PeerIdentity = mesh.Identity("cluster.local", "istio-system", mesh.VerifierAccount)
	knocked := inEdge("10.77.0.1/32", mesh.Plaintext, noon, noon, 1)
	knocked.Allowed = false
	probed := outEdge(mesh.Unknown, noon, noon, 1)
	probed.Peer, probed.Service, probed.Port, probed.Allowed, probed.PeerNet = "", "", 9, false, netip.MustParsePrefix("192.0.2.1/32")
	tell := func(at time.Time, n uint64) {
		for _, e := range []*mesh.Edge{&in, &out, &plain, &refused, &tried, &knocked, &probed} {
			e.Connections, e.Last, e.Sent, e.Received = e.Connections+n, at, e.Sent+100*n, e.Received+10*n
		}
		in.Protocol, in.Requests, in.Errors = mesh.HTTP, in.Requests+100, in.Errors+1
		in.Latency = make([]uint64, 13)
		in.Latency[1], in.Latency[12] = in.Requests*98/100, in.Requests*2/100
		take(t, b, w, report("api-1", at, nil, in, plain, refused, tried, knocked), at)
		take(t, b, w, report("web-1", at, nil, out, probed), at)
	}
	tell(after(time.Second), 0)
	tell(after(time.Hour), 2)
	tell(after(time.Hour+10*time.Second), 3)
	f := b.Facts(7, after(time.Hour+30*time.Second))
	g := truth.GraphOf(w, f, time.Minute)
	var got []string
	for _, n := range g.Nodes {
		got = append(got, fmt.Sprintf("node %s %s %s meshed=%t %s", n.ID, n.Kind, n.Name, n.Meshed, strings.Join(n.Workloads, ",")))
	}
	for _, e := range g.Edges {
		got = append(got, fmt.Sprintf("%s > %s:%d %s %s tls=%d plain=%d refused=%d sent=%d %s %d/%d p50=%s p99=%s %q %q",
			e.From, e.To, e.Port, e.Lock, e.Seen, e.MutualTLS, e.Plaintext, e.Refused, e.Sent, e.Protocol, e.Errors, e.Requests, e.P50, e.P99, e.Why, e.Disagreement))
	}
	want := []string{
		"node 192.0.2.1 outside 192.0.2.1 meshed=false ",
		"node shop/api workload api meshed=true shop/api-1",
		"node shop/legacy workload legacy meshed=false shop/legacy-1",
		"node shop/web workload web meshed=true shop/web-1",
		`192.0.2.1 > shop/api:8080 refused destination tls=0 plain=0 refused=5 sent=500  0/0 p50=0s p99=0s "no" ""`,
		`shop/legacy > shop/api:8080 open destination tls=0 plain=5 refused=0 sent=500  0/0 p50=0s p99=0s "client shop/legacy-1 has no sidecar" ""`,
		`shop/web > shop/api:80 closed both tls=5 plain=0 refused=0 sent=500 http 2/200 p50=1ms p99=30s "" ""`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if g.Lock != truth.LockPartial || g.MutualTLS != 0.5 {
		t.Errorf("all of it: %s %v", g.Lock, g.MutualTLS)
	}
	if h := g.Edges[2].Handshake; h == nil || h.LocalIdentity != id("web") || h.PeerIdentity != id("api") {
		t.Errorf("handshake %v", h)
	}
	if g := truth.GraphOf(w, b.Facts(7, after(3*time.Hour)), time.Minute); len(g.Edges) > 0 || len(g.Nodes) > 0 || g.MutualTLS != 1 || g.Lock != "" {
		t.Errorf("hours later there are %d edges and %d nodes, %s %v", len(g.Edges), len(g.Nodes), g.Lock, g.MutualTLS)
	}
}

// TestWindow: figures are of the last while, of connections that live on too, or
// of all the time.
func TestWindow(t *testing.T) {
	w := build(t, town)
	b := booked(t, w, "web-1")
	e := outEdge(mesh.MutualTLS, noon, noon, 0)
	e.Open = 1
	for s := range 300 { // one a second
		at := after(time.Duration(s) * time.Second)
		e.Last, e.Connections, e.Sent = at, e.Connections+1, e.Sent+1000
		take(t, b, w, report("web-1", at, nil, e), at)
	}
	now := after(300 * time.Second)
	for window, want := range map[time.Duration]uint64{time.Minute: 59, 30 * time.Second: 29, 10 * time.Second: 9, time.Hour: 300} {
		got := truth.GraphOf(w, b.Facts(7, now), window).Edges[0].MutualTLS
		if got < want || got > want+8 { // samples are 6 s apart
			t.Errorf("%d connections in %s, want %d", got, window, want)
		}
	}
	later := now.Add(time.Hour)
	if g := truth.GraphOf(w, b.Facts(7, later), time.Minute); len(g.Edges) != 1 || g.Edges[0].MutualTLS != 1 || g.Edges[0].Sent != 0 {
		t.Errorf("what lives on: %v", g.Edges)
	}
	if g := truth.GraphOf(w, b.Facts(7, later), 24*time.Hour); len(g.Edges) != 1 || g.Edges[0].MutualTLS != 300 || g.Window <= time.Hour {
		t.Errorf("all the time: %v of %s", g.Edges, g.Window)
	}
}

// TestWentOver: plaintext that only ended in the window is still told of, and what
// is all mutual TLS now has no reason of the plaintext before.
func TestWentOver(t *testing.T) {
	w := build(t, town)
	b := booked(t, w, "web-1", "api-1")
	plain := outEdge(mesh.Plaintext, noon, noon, 1)
	plain.Open, plain.Why = 1, "DISABLE by DestinationRule shop/api"
	take(t, b, w, report("web-1", noon, nil, plain), noon)
	plain.Open, plain.Sent, plain.Last = 0, plain.Sent+5, after(time.Hour)
	mutual := func(at time.Time, n uint64) mesh.Edge {
		e := outEdge(mesh.MutualTLS, after(time.Hour), at, n)
		e.Why = "of no matter"
		return e
	}
	barred := outEdge(mesh.MutualTLS, after(3*time.Hour), after(3*time.Hour), 2)
	barred.Allowed, barred.Why = false, "no rule allows it"
	for _, step := range []struct {
		at   time.Time
		tell []mesh.Edge
		want string
	}{
		{after(time.Hour), []mesh.Edge{plain, mutual(after(time.Hour), 1)}, `partial tls=1 plain=1 refused=0 "DISABLE by DestinationRule shop/api"`},
		{after(2 * time.Hour), []mesh.Edge{mutual(after(2*time.Hour), 2)}, `closed tls=1 plain=0 refused=0 ""`},
		{after(3 * time.Hour), []mesh.Edge{mutual(after(3*time.Hour), 3), barred}, `closed tls=1 plain=0 refused=2 "no rule allows it"`},
	} {
		take(t, b, w, report("web-1", step.at, nil, step.tell...), step.at)
		e := truth.GraphOf(w, b.Facts(7, step.at), time.Minute).Edges[0]
		if got := fmt.Sprintf("%s tls=%d plain=%d refused=%d %q", e.Lock, e.MutualTLS, e.Plaintext, e.Refused, e.Why); got != step.want {
			t.Errorf("%s, want %s", got, step.want)
		}
	}
}

// TestGraphDisagreement: an edge that one end alone reports, or otherwise.
func TestGraphDisagreement(t *testing.T) {
	w := build(t, town)
	silent := "shop/%s has a proxy and did not report that it %s the connection: it bypassed the proxy, or the proxy does not tell"
	at := after(10 * time.Second)
	for name, c := range map[string]struct {
		in, out  *mesh.Edge
		fold     string // a network that api-1 sums up, long ago
		now      time.Duration
		want     string
		disagree string
	}{
		"both":                    {in: ptr(inEdge("shop/web-1", mesh.MutualTLS, at, at, 1)), out: ptr(outEdge(mesh.MutualTLS, at, at, 1)), want: "closed both"},
		"the client alone":        {out: ptr(outEdge(mesh.MutualTLS, at, at, 1)), want: "closed source", disagree: fmt.Sprintf(silent, "api-1", "received")},
		"the client alone so far": {out: ptr(outEdge(mesh.MutualTLS, at, at, 1)), now: 2 * time.Second, want: "closed source"},
		"the server alone":        {in: ptr(inEdge("shop/web-1", mesh.MutualTLS, at, at, 1)), want: "closed destination", disagree: fmt.Sprintf(silent, "web-1", "made")},
		"the client alone, with a full ledger at the server": {out: ptr(outEdge(mesh.MutualTLS, at, at, 1)), fold: "10.0.0.0/24", want: "closed source"},
		"the client alone, others summed up at the server": {out: ptr(outEdge(mesh.MutualTLS, at, at, 1)), fold: "192.0.2.0/24", want: "closed source",
			disagree: fmt.Sprintf(silent, "api-1", "received")},
		"a client without a proxy": {in: ptr(inEdge("shop/legacy-1", mesh.Plaintext, at, at, 1)), want: "open destination"},
		"the server says plaintext": {in: ptr(inEdge("shop/web-1", mesh.Plaintext, at, at, 1)), out: ptr(outEdge(mesh.MutualTLS, at, at, 1)),
			want: "open both", disagree: "the clients' proxies say mutual TLS and the servers' plaintext"},
		"the client says plaintext": {in: ptr(inEdge("shop/web-1", mesh.MutualTLS, at, at, 1)), out: ptr(outEdge(mesh.Plaintext, at, at, 1)),
			want: "open both", disagree: "the clients' proxies say plaintext and the servers' mutual TLS"},
	} {
		b := booked(t, w, "web-1", "api-1")
		if c.in != nil {
			take(t, b, w, report("api-1", at, nil, *c.in), at)
		}
		if c.fold != "" {
			take(t, b, w, report("api-1", at, nil, inEdge(c.fold, mesh.Plaintext, after(-time.Hour), after(-time.Hour), 1)), at)
		}
		if c.out != nil {
			take(t, b, w, report("web-1", at, nil, *c.out), at)
		}
		if c.now == 0 {
			c.now = 5 * time.Second
		}
		g := truth.GraphOf(w, b.Facts(7, at.Add(c.now)), time.Minute)
		if len(g.Edges) != 1 {
			t.Errorf("%s: %d edges", name, len(g.Edges))
			continue
		}
		e := g.Edges[0]
		if got := e.Lock + " " + e.Seen; got != c.want || e.Disagreement != c.disagree {
			t.Errorf("%s: %s, want %s; %q, want %q", name, got, c.want, e.Disagreement, c.disagree)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// Whatever number a proxy makes up, plaintext that was seen is in the share.
func TestGraphOfHugeNumbers(t *testing.T) {
	w := build(t, town)
	b := booked(t, w, "api-1")
	mutual, plain := inEdge("shop/web-1", mesh.MutualTLS, noon, noon, 1<<63), inEdge("shop/legacy-1", mesh.Plaintext, noon, noon, 1<<63)
	take(t, b, w, report("api-1", after(time.Second), nil, mutual, plain), after(time.Second))
	g := truth.GraphOf(w, b.Facts(1, after(2*time.Second)), time.Minute)
	if g.MutualTLS != 0.5 || g.Lock != truth.LockPartial {
		t.Errorf("%v of it is mutual TLS, %s", g.MutualTLS, g.Lock)
	}
}
