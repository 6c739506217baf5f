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
	"hasp/world"
)

// TestLinks: what becomes of the rows of both ends, or of one.
func TestLinks(t *testing.T) {
	w := build(t, town)
	start := after(2 * time.Second)
	type change func(out, in *mesh.Connection)
	silent := "shop/%s has a proxy and did not report that it %s the connection: it bypassed the proxy, or the proxy does not tell"
	for name, c := range map[string]struct {
		change          change
		onlyOut, onlyIn bool
		later           time.Duration // when it is asked, 10 s after the start if 0
		gone            string        // a proxy that left
		want            string        // source > destination, seen, security, why
		disagree        string
	}{
		"both ends": {want: "web.shop > api.shop both mutual_tls"},
		"the client's proxy is silent": {onlyIn: true, want: "web.shop > api.shop destination mutual_tls",
			disagree: fmt.Sprintf(silent, "web-1", "made")},
		"the server's proxy is silent": {onlyOut: true, want: "web.shop > api.shop source mutual_tls",
			disagree: fmt.Sprintf(silent, "api-1", "received")},
		"it still may speak":          {onlyOut: true, later: 2 * time.Second, want: "web.shop > api.shop source mutual_tls"},
		"it is gone":                  {onlyOut: true, gone: "shop/api-1", want: "web.shop > api.shop source mutual_tls"},
		"it was over before we asked": {onlyOut: true, change: func(out, _ *mesh.Connection) { out.Start, out.LastSeen = after(-2*time.Second), after(-time.Second) }, want: "web.shop > api.shop source mutual_tls"},
		"it began before we asked, and lives": {onlyOut: true, change: func(out, _ *mesh.Connection) { out.Start = after(-time.Second) }, want: "web.shop > api.shop source mutual_tls",
			disagree: fmt.Sprintf(silent, "api-1", "received")},
		"it was not let in at once": {onlyOut: true, change: func(out, _ *mesh.Connection) { out.Allowed = false }, want: "web.shop > api.shop source mutual_tls"},
		"other TLS": {change: func(_, in *mesh.Connection) { in.TLS = "1.2" }, want: "web.shop > api.shop both mutual_tls",
			disagree: "the client's proxy says TLS is 1.3 and the server's 1.2"},
		"other speech": {change: func(_, in *mesh.Connection) { in.Security, in.TLS = mesh.Plaintext, "" }, want: "web.shop > api.shop both none",
			disagree: "the client's proxy says security is mutual_tls and the server's none"},
		"another server": {change: func(out, _ *mesh.Connection) { out.PeerIdentity = id("other") }, want: "web.shop > api.shop both mutual_tls",
			disagree: "the client's proxy says the server is " + id("other") + " and the server's " + id("api")},
		"another client": {change: func(_, in *mesh.Connection) { in.PeerIdentity = id("other") }, want: "web.shop > api.shop both mutual_tls",
			disagree: "the client's proxy says the client is " + id("web") + " and the server's " + id("other")},
		"the application's TLS": {change: func(out, in *mesh.Connection) {
			out.Security, in.Security, out.Why = mesh.Plaintext, mesh.PassedTLS, "DISABLE of DestinationRule shop/api (service)"
		}, want: "web.shop > api.shop both opaque DISABLE of DestinationRule shop/api (service)"},
		"plaintext": {change: func(out, in *mesh.Connection) {
			out.Security, in.Security, out.Why, in.Why = mesh.Plaintext, mesh.Plaintext, "the client's reason", "the server's"
		}, want: "web.shop > api.shop both none the client's reason"},
		"a port that the server's kernel changed": {change: func(out, in *mesh.Connection) {
			in.Trace, in.Source = traced("b"), addr("10.0.0.1:10101")
			out.Security, in.Security, out.End, in.End = mesh.Plaintext, mesh.Plaintext, out.LastSeen, in.LastSeen
		}, want: "web.shop > api.shop both none"},
		"still shaking hands": {change: func(out, in *mesh.Connection) { in.Security = mesh.Unknown }, want: "web.shop > api.shop both mutual_tls"},
		"a service called in vain": {onlyOut: true, change: func(out, _ *mesh.Connection) {
			out.Upstream, out.PeerIdentity, out.Allowed, out.Security, out.Why = addr0, "", false, mesh.Unknown, "no endpoint"
		}, want: "web.shop > api.shop source unknown no endpoint"},
		"an address that no service has": {onlyOut: true, change: func(out, _ *mesh.Connection) {
			out.Destination, out.Upstream, out.PeerIdentity, out.Service, out.Security = addr("192.0.2.8:443"), addr("192.0.2.8:443"), "", "", mesh.Plaintext
		}, want: "web.shop > 192.0.2.8 source none"},
		"a pod without a proxy": {onlyIn: true, change: func(_, in *mesh.Connection) {
			in.Source, in.Security, in.Why = addr("10.0.0.3:1"), mesh.Plaintext, "client shop/legacy-1 has no sidecar"
		}, want: "legacy.shop > api.shop destination none client shop/legacy-1 has no sidecar"},
		"a node": {onlyIn: true, change: func(_, in *mesh.Connection) { in.Source, in.Security = addr("10.1.0.1:1"), mesh.Plaintext },
			want: "host 10.1.0.1 > api.shop destination none"},
		"a stranger": {onlyIn: true, change: func(_, in *mesh.Connection) { in.Source, in.Security = addr("192.0.2.1:1"), mesh.Plaintext },
			want: "192.0.2.1 > api.shop destination none"},
		"a process of this machine": {onlyIn: true, change: func(_, in *mesh.Connection) { in.Source, in.Security = addr("192.0.2.7:1"), mesh.Plaintext },
			want: "process hasp (pid 42) > api.shop destination none"},
	} {
		t.Run(name, func(t *testing.T) {
			b := booked(t, w, "web-1", "api-1")
			out, in := both(traced(name), start)
			if c.change != nil {
				c.change(&out, &in)
			}
			if !c.onlyIn {
				take(t, b, w, report("web-1", start, []mesh.Connection{out}), start)
			}
			if !c.onlyOut {
				take(t, b, w, report("api-1", start, []mesh.Connection{in}), start)
			}
			b.Gone(c.gone, start)
			if c.later == 0 {
				c.later = 10 * time.Second
			}
			f := b.Facts(7, start.Add(c.later))
			f.Processes = map[netip.Addr]string{netip.MustParseAddr("192.0.2.7"): "hasp (pid 42)"}
			links := truth.Links(w, f, "")
			if len(links) != 1 {
				t.Fatalf("%d links", len(links))
			}
			l := links[0]
			got := strings.TrimSpace(fmt.Sprintf("%s > %s %s %s %s", l.Source, l.Destination, l.Seen, l.Security, l.Why))
			if got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
			if l.Disagreement != c.disagree {
				t.Errorf("disagreement %q\nwant %q", l.Disagreement, c.disagree)
			}
		})
	}
}

// TestLinkOfBoth: the fields of a link that both ends saw.
func TestLinkOfBoth(t *testing.T) {
	w := build(t, town)
	b := booked(t, w, "web-1", "api-1")
	start := after(time.Second)
	out, in := both(traced("a"), start)
	out.Requests, in.Received = 3, 21
	take(t, b, w, report("web-1", start, []mesh.Connection{out}), start)
	take(t, b, w, report("api-1", start, []mesh.Connection{in}), start)
	l := truth.Links(w, b.Facts(7, start), "")[0]
	if l.AtSource == nil || l.AtDestination == nil {
		t.Fatal("a row is missing")
	}
	l.AtSource, l.AtDestination = nil, nil
	want := truth.Link{
		Trace:       traced("a"),
		Source:      truth.Party{Kind: truth.KindWorkload, Workload: "shop/web-1", Owner: "web", Namespace: "shop", Address: "10.0.0.1", Identity: id("web"), Meshed: true},
		Destination: truth.Party{Kind: truth.KindWorkload, Workload: "shop/api-1", Owner: "api", Namespace: "shop", Address: "10.0.0.2", Identity: id("api"), Meshed: true},
		Service:     apiHost, Port: 80, Seen: "both", Security: mesh.MutualTLS,
		Handshake: &mesh.Handshake{At: start, TLS: "1.3", Group: "X25519MLKEM768", LocalIdentity: id("web"), PeerIdentity: id("api")},
		Allowed:   true, Mode: "STRICT", Rule: mesh.Origin{Kind: "PeerAuthentication", Namespace: "shop", Name: "default", Level: "namespace"},
		ClientMode: "AUTO", ClientRule: mesh.Origin{Level: mesh.LevelAuto}, Generation: 7, Protocol: mesh.HTTP,
		Sent: 10, Received: 21, Requests: 3, Start: start, LastSeen: start,
	}
	if diff := cmp.Diff(want, l); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestLinksOf: whom a name means, and the order.
func TestLinksOf(t *testing.T) {
	w := build(t, town)
	b := booked(t, w, "web-1", "api-1")
	start := after(time.Second)
	var outs, ins []mesh.Connection
	for i, end := range []time.Duration{0, time.Second, 0, 2 * time.Second} {
		out, in := both(traced(fmt.Sprint(i)), start.Add(time.Duration(i)*time.Millisecond))
		out.ID, in.ID = uint64(i+1), uint64(i+1)
		if end > 0 {
			out.End, in.End = start.Add(end), start.Add(end)
		}
		outs, ins = append(outs, out), append(ins, in)
	}
	now := start.Add(5 * time.Second)
	take(t, b, w, report("web-1", now, outs), now)
	take(t, b, w, report("api-1", now, ins), now)
	f := b.Facts(7, now)
	for name, want := range map[string]string{
		"": "2 0 3 1", "web": "2 0 3 1", "shop/api-1": "2 0 3 1", "api.shop": "2 0 3 1", "shop/web": "2 0 3 1", "10.0.0.1": "", "legacy": "", "web.other": "",
	} {
		var got []string
		for _, l := range truth.Links(w, f, name) {
			got = append(got, fmt.Sprint(l.AtSource.ID-1))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%q: %q, want %q", name, s, want)
		}
	}
}

// TestForgedLink: a proxy that repeats the trace of others' connection makes no
// link of it, and takes nothing away.
func TestForgedLink(t *testing.T) {
	w := build(t, town, pod("shop", "mallory", "mallory-1", "10.0.0.66", true))
	b := booked(t, w, "web-1", "api-1", "mallory-1")
	start := after(2 * time.Second)
	out, in := both(traced("a"), start)
	forged := in
	forged.Destination, forged.PeerIdentity, forged.Security = addr("10.0.0.66:8080"), id("web"), mesh.Plaintext
	now := start.Add(10 * time.Second)
	take(t, b, w, report("mallory-1", now, []mesh.Connection{forged}), now)
	take(t, b, w, report("web-1", now, []mesh.Connection{out}), now)
	take(t, b, w, report("api-1", now, []mesh.Connection{in}), now)
	for _, l := range truth.Links(w, b.Facts(7, now), "") {
		switch l.Destination.Owner {
		case "api":
			if l.Seen != "both" || l.Disagreement != "" {
				t.Errorf("the true one is seen by %s: %s", l.Seen, l.Disagreement)
			}
		case "mallory":
			if l.Seen != "destination" || !strings.Contains(l.Disagreement, "shop/web-1 has a proxy and did not report") {
				t.Errorf("the forged one is seen by %s: %s", l.Seen, l.Disagreement)
			}
		}
	}
}

// TestUsedAgain: two connections by the same sockets, one after the other.
func TestUsedAgain(t *testing.T) {
	w := build(t, town)
	b := booked(t, w, "web-1", "api-1")
	var outs, ins []mesh.Connection
	for i := range 2 {
		start := after(time.Duration(i+1) * time.Minute)
		out, in := both(traced("sockets"), start)
		out.ID, in.ID = uint64(i+1), uint64(i+1)
		out.End, in.End = start.Add(time.Second), start.Add(time.Second)
		outs, ins = append(outs, out), append(ins, in)
	}
	now := after(5 * time.Minute)
	take(t, b, w, report("web-1", now, outs), now)
	take(t, b, w, report("api-1", now, ins[1:]), now)
	for _, l := range truth.Links(w, b.Facts(7, now), "") {
		if want := map[uint64]string{1: "source", 2: "both"}[l.AtSource.ID]; l.Seen != want {
			t.Errorf("connection %d is seen by %s, want %s", l.AtSource.ID, l.Seen, want)
		}
	}
}

// TestDeparted: a pod that was gone before the report came still has its name,
// if it was there at all.
func TestDeparted(t *testing.T) {
	brief := pod("shop", "brief", "brief-1", "10.0.0.9", false)
	w, with := build(t, town), build(t, town, brief)
	row := func(claim string) mesh.Connection {
		_, in := both("", noon)
		in.Source, in.PeerWorkload, in.Security, in.PeerIdentity = addr("10.0.0.9:1"), claim, mesh.Plaintext, ""
		return in
	}
	for name, c := range map[string]struct {
		see   bool
		claim string
		later *world.World // when the report comes
		after time.Duration
		want  string
	}{
		"it was there":                 {see: true, claim: "shop/brief-1", later: w, want: "brief.shop brief.shop"},
		"long ago":                     {see: true, claim: "shop/brief-1", later: w, after: time.Hour, want: "10.0.0.9 unknown addresses"},
		"nobody saw it":                {claim: "shop/brief-1", later: w, want: "10.0.0.9 unknown addresses"},
		"another one has the address":  {see: true, claim: "shop/brief-1", later: build(t, town, pod("shop", "next", "next-1", "10.0.0.9", false)), want: "brief.shop brief.shop"},
		"it is the other one's":        {see: true, claim: "shop/next-1", later: build(t, town, pod("shop", "next", "next-1", "10.0.0.9", false)), want: "next.shop next.shop"},
		"it was never at that address": {see: true, claim: "shop/legacy-1", later: w, want: "10.0.0.9 legacy.shop"},
	} {
		b := booked(t, w, "api-1")
		if c.see {
			b.See(with, noon)
		}
		now := after(time.Second + c.after)
		b.See(c.later, after(time.Second))
		b.See(build(t, town), now) // forgets who left long ago
		if c.after == 0 {
			b.See(c.later, now)
		}
		take(t, b, c.later, report("api-1", now, []mesh.Connection{row(c.claim)}, inEdge(c.claim, mesh.Plaintext, noon, noon, 1)), now)
		f := b.Facts(7, now)
		got := truth.Links(c.later, f, "")[0].Source.String() + " " + truth.PlaintextOf(c.later, f).Lines[0].Source.String()
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestAPodThatWasNeverSeenToRun has a name all the same: it was over before a
// World had it. Of two that had the address nobody knows which it was.
func TestAPodThatWasNeverSeenToRun(t *testing.T) {
	over := func(name string) string {
		p := strings.ReplaceAll(pod("shop", "curl", name, "10.9.9.9", false), "phase: Running", "phase: Succeeded")
		return p
	}
	for _, tt := range []struct {
		name, manifests, want string
	}{
		{"one", over("curl-1"), "shop/curl-1"},
		{"two", over("curl-1") + over("curl-2"), ""},
		{"a running one has the address now", over("curl-1") + pod("shop", "curl", "curl-3", "10.9.9.9", false), "shop/curl-3"},
	} {
		w := build(t, town, tt.manifests)
		b := truth.NewBook(truth.Limits{})
		_, in := both(traced("a"), noon)
		in.Source, in.PeerWorkload, in.PeerIdentity, in.Security = addr("10.9.9.9:1"), "", "", mesh.Plaintext
		take(t, b, w, report("api-1", noon, []mesh.Connection{in}, inEdge("10.9.9.9/32", mesh.Plaintext, noon, noon, 1)), noon)
		f := b.Facts(7, noon)
		links := truth.Links(w, f, "")
		if len(links) != 1 || links[0].Source.Workload != tt.want {
			t.Errorf("%s: the client is %q, want %q", tt.name, links[0].Source.Workload, tt.want)
		}
		if got := f.Edges[0].Peer; got != tt.want {
			t.Errorf("%s: the ledger says %q, want %q", tt.name, got, tt.want)
		}
	}
}
