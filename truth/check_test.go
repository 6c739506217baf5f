package truth_test

import (
	"strings"
	"testing"
	"time"

	"hasp/mesh"
	"hasp/truth"
	"hasp/world"
)

const strict = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
`

// strictly makes a line of a server one that went by strict.
func strictly(e mesh.Edge) mesh.Edge {
	e.Mode, e.Rule = "STRICT", mesh.Origin{Kind: "PeerAuthentication", Namespace: "shop", Name: "default", Level: mesh.LevelNamespace}
	return e
}

// disabled makes a line of a client one that went by disable.
func disabled(e mesh.Edge) mesh.Edge {
	e.Mode, e.Rule = "DISABLE", mesh.Origin{Kind: "DestinationRule", Namespace: "shop", Name: "api", Level: mesh.LevelService}
	return e
}

// TestCheck: verdict and headline, from the configuration and what was seen.
func TestCheck(t *testing.T) {
	at := after(10 * time.Second)
	in := func(s mesh.Security) mesh.Edge { return strictly(inEdge("shop/web-1", s, at, at, 1)) }
	out := func(s mesh.Security) mesh.Edge { return outEdge(s, at, at, 1) }
	for name, c := range map[string]struct {
		more     string
		in, out  []mesh.Edge
		want     string // verdict, security, ends
		headline string
	}{
		"never":                  {more: strict, want: "AUTO"},
		"as configured":          {more: strict, in: []mesh.Edge{in(mesh.MutualTLS)}, out: []mesh.Edge{out(mesh.MutualTLS)}, want: "AUTO mutual_tls both"},
		"by one end":             {more: strict, out: []mesh.Edge{out(mesh.MutualTLS)}, want: "AUTO mutual_tls source"},
		"plaintext, by the rule": {more: disable, out: []mesh.Edge{disabled(out(mesh.Plaintext))}, want: "OK none source"},
		"plaintext all the same": {out: []mesh.Edge{out(mesh.Plaintext)}, want: "DIFFERS none source",
			headline: "the configuration says mutual TLS, and the newest connection, at 12:00:10, was plaintext"},
		"mutual TLS all the same": {more: disable, out: []mesh.Edge{disabled(out(mesh.MutualTLS))}, want: "DIFFERS mutual_tls source",
			headline: "the configuration says plaintext, and the newest connection, at 12:00:10, was mutual TLS"},
		"plaintext by a rule that is gone":        {out: []mesh.Edge{disabled(out(mesh.Plaintext))}, want: "AUTO none source"},
		"mutual TLS from before there was a rule": {more: disable, out: []mesh.Edge{out(mesh.MutualTLS)}, want: "OK mutual_tls source"},
		"the server saw plaintext under STRICT": {more: strict, in: []mesh.Edge{in(mesh.Plaintext)}, want: "DIFFERS none destination",
			headline: "the configuration says mutual TLS, and the newest connection, at 12:00:10, was plaintext"},
		"and before there was STRICT":                {more: strict, in: []mesh.Edge{inEdge("shop/web-1", mesh.Plaintext, at, at, 1)}, want: "AUTO none destination"},
		"another client":                             {more: strict, in: []mesh.Edge{strictly(inEdge("shop/legacy-1", mesh.Plaintext, at, at, 1))}, want: "AUTO"},
		"a rule that is gone, by both ends' account": {more: strict, in: []mesh.Edge{in(mesh.Plaintext)}, out: []mesh.Edge{disabled(out(mesh.Plaintext))}, want: "AUTO none both"},
	} {
		w := build(t, town, c.more)
		b := booked(t, w, "web-1", "api-1")
		take(t, b, w, report("api-1", at, nil, c.in...), at)
		take(t, b, w, report("web-1", at, nil, c.out...), at)
		got := check(w, b.Facts(7, at))
		words := []string{got.Verdict}
		if got.Seen != nil {
			words = append(words, string(got.Seen.Security), got.Seen.Ends)
			if got.Seen.Security == mesh.MutualTLS && (got.Seen.TLS != "1.3" || got.Seen.LocalIdentity != id("web") || got.Seen.PeerIdentity != id("api")) {
				t.Errorf("%s: handshake %v", name, got.Seen.Handshake)
			}
		}
		if s := strings.Join(words, " "); s != c.want || got.Headline != c.headline {
			t.Errorf("%s: %s, want %s; %q, want %q", name, s, c.want, got.Headline, c.headline)
		}
		if !got.Acked {
			t.Errorf("%s: behind are %v", name, got.Behind)
		}
	}
}

// TestCheckOfItself: a pod's calls of itself, which are never encrypted, do not
// stand for those of the other pods of its Deployment.
func TestCheckOfItself(t *testing.T) {
	at := after(10 * time.Second)
	w := build(t, town, strict)
	b := booked(t, w, "web-1", "api-1")
	itself := outEdge(mesh.Plaintext, at, at, 1)
	itself.Peer = "shop/api-1"
	take(t, b, w, report("api-1", at, nil, itself, strictly(inEdge("shop/api-1", mesh.Plaintext, at, at, 1))), at)
	got := truth.Check(w, b.Facts(7, at), w.Workload("shop/api-1"), w.Service("shop", apiHost), 80, "")
	if got.Verdict == truth.Differs || got.Seen != nil {
		t.Errorf("%+v, want nothing seen", got)
	}
}

func check(w *world.World, f *truth.Facts) truth.Checked {
	return truth.Check(w, f, w.Workload("shop/web-1"), w.Service("shop", apiHost), 80, "")
}

// TestBehind: a proxy that has not got the newest generation, or says nothing.
func TestBehind(t *testing.T) {
	w := build(t, town)
	b := booked(t, w, "web-1", "api-1")
	for step, c := range []struct {
		do   func()
		want string
	}{
		{func() {}, ""},
		{func() { b.Gone("shop/api-1", noon) }, "shop/api-1"},
		{func() { take(t, b, w, report("api-1", noon, nil), noon) }, ""},
		{func() { r := report("web-1", noon, nil); r.Generation = 6; take(t, b, w, r, noon) }, "shop/web-1"},
	} {
		c.do()
		got := check(w, b.Facts(7, noon))
		if s := strings.Join(got.Behind, " "); s != c.want || got.Acked != (c.want == "") {
			t.Errorf("step %d: behind %q, want %q; acked %t", step, s, c.want, got.Acked)
		}
	}
}
