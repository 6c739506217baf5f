package truth_test

import (
	"encoding/json"
	"testing"
	"time"

	"hasp/mesh"
	"hasp/truth"
)

// FuzzTake: whatever a proxy says, what is kept is about its workload, of a
// bounded size, and not of the future; and every view can be made of it.
func FuzzTake(f *testing.F) {
	out, in := both(traced("a"), noon)
	never(&in, failure(mesh.StageHandshake, mesh.ReasonExpired))
	seed, err := json.Marshal(report("api-1", noon, []mesh.Connection{out, in}, inEdge("shop/web-1", mesh.MutualTLS, noon, noon, 3), inEdge("192.0.2.0/24", mesh.Plaintext, noon, noon, 1)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, seed)
	f.Add([]byte(`{"at":"9999-01-01T00:00:00Z","whole":true,"dropped":1,"edges":[{"direction":"inbound","connections":1,"last":"0001-01-01T00:00:00Z","peer":"\u001b[2J"}]}`), []byte(`{}`))
	w := build(f, town)
	limits := truth.Limits{Live: 4, Recent: 4, EdgesOf: 4, Text: 32}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		b := truth.NewBook(limits)
		now := noon
		for _, raw := range [][]byte{first, second, first} {
			var r mesh.Report
			if json.Unmarshal(raw, &r) != nil {
				return
			}
			r.Node, r.Identity = "shop/api-1", id("api")
			if now = now.Add(time.Second); b.Take(w, &r, now) != nil {
				t.Fatal("refused")
			}
			examine(t, b.Facts(7, now))
		}
		facts := b.Facts(7, now)
		truth.PlaintextOf(w, facts)
		truth.GraphOf(w, facts, time.Minute)
		check(w, facts)
		for _, l := range truth.Links(w, facts, "") {
			truth.Why(w, facts, l.Trace)
		}
		raw, err := json.Marshal(b.Save())
		if err != nil {
			t.Fatal(err)
		}
		var l truth.Ledger
		if err := json.Unmarshal(raw, &l); err != nil {
			t.Fatal(err)
		}
		if err := truth.NewBook(limits).Load(&l, now); err != nil {
			t.Fatal(err)
		}
	})
}

func examine(t *testing.T, f *truth.Facts) {
	if len(f.Connections) > 8 || len(f.Edges) > 4 {
		t.Fatalf("%d connections and %d lines", len(f.Connections), len(f.Edges))
	}
	for _, e := range f.Edges {
		if e.Node != "shop/api-1" || e.First.After(f.At) || e.Last.After(f.At) || e.Last.Before(e.First) {
			t.Fatalf("line of %s from %s to %s", e.Node, e.First, e.Last)
		}
		for _, s := range []string{e.Peer, e.Why, e.Service, e.PeerIdentity, e.Mode} {
			fit(t, s)
		}
	}
	for _, c := range f.Connections {
		if c.Node != "shop/api-1" || c.LocalIdentity != id("api") || c.Start.After(f.At) || c.LastSeen.After(f.At) || !c.End.IsZero() && c.End.Before(c.Start) {
			t.Fatalf("connection of %s, %s, from %s to %s", c.Node, c.LocalIdentity, c.Start, c.End)
		}
		for _, s := range []string{c.Trace, c.Why, c.Service, c.PeerIdentity, c.Mode, c.Cluster} {
			fit(t, s)
		}
		if c.Failure != nil {
			fit(t, c.Failure.Error)
		}
	}
}

func fit(t *testing.T, s string) {
	if len(s) > 32 {
		t.Fatalf("%d bytes: %q", len(s), s)
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			t.Fatalf("%q would be obeyed by a terminal", s)
		}
	}
}
