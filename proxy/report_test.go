package proxy

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"hasp/mesh"
)

// report waits until a report has something to say that satisfies want.
func (n *node) report(want func(*mesh.Report) bool) *mesh.Report {
	n.t.Helper()
	var r *mesh.Report
	for end := time.Now().Add(patience); time.Now().Before(end); {
		select {
		case <-n.Facts().Changed():
		case <-time.After(time.Until(end)):
		}
		if r = n.Facts().Report(false); want(r) {
			return r
		}
	}
	n.t.Fatalf("no such report; the last was %+v", r)
	return nil
}

func TestReportsAreOfWhatChanged(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	c := talk(t, "127.0.0.5", m.client.outboundTo(vip))
	m.server.row(func(f mesh.Connection) bool { return f.Sent == 1 }) // it may be counted after it has arrived
	r := m.server.report(func(r *mesh.Report) bool {
		return len(r.Connections) == 1 && len(r.Edges) == 1 && r.Edges[0].Received == 1
	})
	f := r.Connections[0]
	if f.Security != mesh.MutualTLS || !f.Allowed || ended(f) || r.Generation != 1 || r.Whole || r.Edges[0].Open != 1 || r.Start.After(r.At) {
		t.Errorf("of a new connection: %+v", r)
	}
	m.server.Facts().Report(false) // what moved meanwhile
	if r := m.server.Facts().Report(false); len(r.Connections)+len(r.Edges) > 0 {
		t.Errorf("nothing happened: %+v", r)
	}
	// Nothing but bytes that move: the proxy looks by itself.
	say(t, c, "more")
	r = m.server.report(func(r *mesh.Report) bool { return len(r.Edges) == 1 && r.Edges[0].Received == 5 })
	if len(r.Connections) != 1 || r.Connections[0].ID != f.ID {
		t.Errorf("of bytes: %+v", r)
	}
	if r := m.server.Facts().Report(true); !r.Whole || len(r.Connections) != 1 || len(r.Edges) != 1 {
		t.Errorf("whole: %+v", r)
	}
	c.Close()
	var edges []mesh.Edge // which may be told before
	r = m.server.report(func(r *mesh.Report) bool {
		edges = append(edges, r.Edges...)
		return len(r.Connections) == 1 && ended(r.Connections[0])
	})
	if n := len(edges); n == 0 || edges[n-1].Open != 0 || r.Dropped != 0 {
		t.Errorf("of its end: %+v and %+v", edges, r)
	}
	if r := m.server.Facts().Report(true); len(r.Connections) != 1 || len(r.Edges) != 1 || !ended(r.Connections[0]) {
		t.Errorf("whole, again: %+v", r)
	}
}

func TestReportsShareTheirRoom(t *testing.T) {
	for _, tc := range []struct{ have, want [classes]int }{
		{[classes]int{}, [classes]int{}},
		{[classes]int{refusedStranger: 9999, moved: 3}, [classes]int{refusedStranger: 497, moved: 3}},
		{[classes]int{9999, 9999, 9999, 9999, 9999, 9999}, shares},
		{[classes]int{refusedStranger: 9999, endedTold: 200, opened: 9999}, [classes]int{refusedStranger: 340, endedTold: 80, opened: 80}},
	} {
		if got := share(tc.have); got != tc.want {
			t.Errorf("%v: %v, want %v", tc.have, got, tc.want)
		}
	}
	sum := 0
	for _, n := range shares {
		sum += n
	}
	if sum != maxTold {
		t.Errorf("the shares are %d of %d", sum, maxTold)
	}
}

// A flood of refused strangers leaves room for a workload that was refused and
// for all that lives, and no report is longer than its bound.
func TestReportsUnderFlood(t *testing.T) {
	n := newNode(t, newTestCA(t), "boards", "127.0.0.9")
	f := n.Facts()
	const strangers, live = 20_000, 1200
	for range live {
		n.table.open(mesh.OutboundDir, nil, time.Now().Add(-time.Minute))
	}
	end := func(c mesh.Connection) {
		r := n.table.open(c.Direction, nil, time.Now())
		c.ID = r.id
		n.table.close(r, &c, true)
		f.ended(r, &c, true)
	}
	for i := range strangers {
		c := stranger(i)
		c.Allowed = false
		end(c)
	}
	end(mesh.Connection{Direction: mesh.InboundDir, PeerWorkload: "shop/known", Source: netip.MustParseAddrPort("10.0.0.2:1")})
	var told, known int
	seen := make(map[uint64]bool)
	for range 20 {
		r := f.Report(false)
		if len(r.Connections) > maxTold || r.Whole {
			t.Fatalf("%d connections, whole: %t", len(r.Connections), r.Whole)
		}
		for _, c := range r.Connections {
			if seen[c.ID] {
				t.Fatalf("%d is told twice", c.ID)
			}
			seen[c.ID] = true
			switch {
			case c.PeerWorkload != "":
				known++
			case c.Direction == mesh.OutboundDir:
				told++
			}
		}
		if len(r.Connections) == 0 {
			if r.Dropped != strangers-maxTold {
				t.Errorf("%d dropped", r.Dropped)
			}
			break
		}
	}
	if told != live || known != 1 {
		t.Errorf("%d of %d that live, %d of 1 workload", told, live, known)
	}
	for _, r := range n.table.rows() {
		n.table.close(r, nil, false)
	}
}

// When more ends than can be told, of what was told of, all is told anew.
func TestLostEndsVoidWhatWasTold(t *testing.T) {
	n := newNode(t, newTestCA(t), "boards", "127.0.0.9")
	f := n.Facts()
	for range maxTold + 100 {
		n.table.open(mesh.OutboundDir, nil, time.Now().Add(-time.Minute))
	}
	f.Report(false)
	f.Report(false)
	for _, r := range n.table.rows() {
		r.set(func(f *mesh.Connection) { f.Allowed = true })
		facts := r.end(time.Now())
		n.table.close(r, &facts, true)
		f.ended(r, &facts, true)
	}
	if r := f.Report(false); !r.Whole || r.Dropped != 100 {
		t.Errorf("whole: %t, dropped %d", r.Whole, r.Dropped)
	}
	if r := f.Report(false); r.Whole {
		t.Error("whole once more")
	}
}

// Whoever asks for probes each second is in no line and in few reports.
func TestProbesAreNotInTheLedger(t *testing.T) {
	for _, f := range []mesh.Connection{
		{Direction: mesh.InboundDir, Security: mesh.Probed, Allowed: true},
		{Direction: mesh.InboundDir, Security: mesh.Unknown}, // said nothing
		{Direction: mesh.InboundDir, Security: mesh.Unknown, Failure: &mesh.Failure{Stage: mesh.StageDial}},
		{Direction: mesh.OutboundDir, Security: mesh.Unknown}, // the proxy had no configuration
	} {
		if tellable(&f) {
			t.Errorf("counted: %s", fmt.Sprint(f))
		}
	}
	for _, f := range []mesh.Connection{
		{Direction: mesh.InboundDir, Security: mesh.Plaintext},
		{Direction: mesh.InboundDir, Security: mesh.Unknown, Mode: "STRICT", Failure: &mesh.Failure{Stage: mesh.StageHandshake}},
		{Direction: mesh.OutboundDir, Security: mesh.Unknown, Cluster: "outbound|8080||x"},
	} {
		if !tellable(&f) {
			t.Errorf("not counted: %s", fmt.Sprint(f))
		}
	}
}
