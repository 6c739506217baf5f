package cli

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hasp/mesh"
	"hasp/truth"
)

var (
	noon   = time.Date(2026, 11, 24, 12, 0, 0, 0, time.Local)
	strict = mesh.Origin{Kind: "PeerAuthentication", Namespace: "shop", Name: "default", Level: "namespace"}
	web    = truth.Party{Workload: "shop/web-1", Owner: "web", Namespace: "shop", Address: "10.0.0.1:40000", Identity: "spiffe://cluster.local/ns/shop/sa/web", Meshed: true}
	boards = truth.Party{Workload: "shop/boards-1", Owner: "boards", Namespace: "shop", Address: "10.0.0.2:8080", Identity: "spiffe://cluster.local/ns/shop/sa/boards", Meshed: true}
	rogue  = truth.Party{Workload: "lab/rogue", Owner: "rogue", Namespace: "lab", Address: "10.0.0.3:40001"}
	nobody = truth.Party{Address: "192.0.2.9:999"}
)

// golden compares with testdata/NAME.golden; -update rewrites it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", file, diff)
	}
}

// someLinks has one of each kind.
func someLinks() []truth.Link {
	return []truth.Link{
		{
			Trace: "aaaa", Source: web, Destination: boards, Port: 8080, Seen: "both", Security: mesh.MutualTLS, Allowed: true, Rule: strict, Mode: "STRICT", Generation: 7,
			Handshake: &mesh.Handshake{TLS: "1.3", Group: "X25519MLKEM768", Cipher: "TLS_AES_128_GCM_SHA256", ALPN: "istio"}, Protocol: "http",
			Sent: 1_234_567, Received: 900, Requests: 3, Start: noon.Add(-12 * time.Second), LastSeen: noon,
			Why: "STRICT asks for it",
		},
		{
			Trace: "bbbb", Source: rogue, Destination: boards, Port: 8080, Seen: "destination", Security: mesh.Plaintext, Allowed: true, Generation: 5,
			Sent: 20, Received: 30, Start: noon.Add(-3 * time.Hour), LastSeen: noon.Add(-2 * time.Hour), End: noon.Add(-2 * time.Hour),
			Why: "rogue.lab has no sidecar",
		},
		{
			Trace: "cccc", Source: nobody, Destination: boards, Port: 8080, Seen: "destination", Security: mesh.Plaintext, Rule: strict, Generation: 7,
			Start: noon.Add(-time.Minute), LastSeen: noon.Add(-time.Minute), End: noon.Add(-time.Minute),
			Why: "plaintext, but STRICT", AtDestination: &truth.Connection{Node: "shop/boards-1", Connection: mesh.Connection{Failure: &mesh.Failure{Stage: "policy", Reason: "plaintext"}}},
		},
	}
}

func TestConnectionsTable(t *testing.T) {
	c := &connections{e: &env{}}
	var out bytes.Buffer
	if err := c.table(someLinks(), noon).write(&out, 0, false); err != nil {
		t.Fatal(err)
	}
	golden(t, "connections", out.String())

	out.Reset()
	c.output = "wide"
	if err := c.table(someLinks()[:1], noon).write(&out, 0, false); err != nil {
		t.Fatal(err)
	}
	golden(t, "connections-wide", out.String())
}

// TestNarrowTerminal: long names give way in the middle, what stands out is in
// colour, and a stranger's words do not steer the terminal.
func TestNarrowTerminal(t *testing.T) {
	links := someLinks()[1:2]
	links[0].Source = truth.Party{Workload: "lab/a-very-long-name-of-a-workload-7f9c", Namespace: "lab"}
	links[0].Why = "so\x1b[2Jthere"
	var out bytes.Buffer
	c := &connections{e: &env{}}
	if err := c.table(links, noon).write(&out, 90, true); err != nil {
		t.Fatal(err)
	}
	golden(t, "connections-narrow", out.String())
}

func TestConnectionsOf(t *testing.T) {
	v := fakeViews{"GET /connections": someLinks()}.client(t)
	for _, c := range []struct {
		workload, namespace string
		live                bool
		want                string
	}{
		{"", "", false, "aaaa bbbb cccc"},
		{"", "", true, "aaaa"},
		{"", "lab", false, "bbbb"},
		{"web", "", false, "aaaa"},
		{"web-1", "", false, "aaaa"},
		{"web.shop", "", false, "aaaa"},
		{"shop/web-1", "", false, "aaaa"},
		{"shop/boards", "", false, "aaaa bbbb cccc"},
		{"192.0.2.9", "", false, "cccc"},
		{"web", "lab", false, `no connection of "web" is known; there are those of 192.0.2.9, boards.shop, rogue.lab, web.shop`},
	} {
		q := &connections{e: &env{}, workload: c.workload, namespace: c.namespace, live: c.live}
		links, err := q.links(t.Context(), v)
		var got []string
		for _, l := range links {
			got = append(got, l.Trace)
		}
		said := strings.Join(got, " ")
		if err != nil {
			said = err.Error()
		}
		if said != c.want {
			t.Errorf("%q in %q, live %v: %s, want %s", c.workload, c.namespace, c.live, said, c.want)
		}
	}
}

// TestWentOver: a client that went over to mutual TLS hinders nobody.
func TestWentOver(t *testing.T) {
	l := someLedger()
	l.Lines, l.Servers = l.Lines[2:], []truth.Called{{Namespace: "shop", Name: "boards", Meshed: true}}
	l.Blind = nil
	const want = "No plaintext for 8 days: STRICT is safe for the one server that was called, boards.shop."
	if got := safety(l); got != want {
		t.Error(got)
	}
}

// TestFollow: without a terminal what is new or changed is appended, and an
// unchanged row is not said again.
func TestFollow(t *testing.T) {
	var out bytes.Buffer
	c := &connections{e: &env{Config: Config{Out: &out}}}
	show := c.changes()
	links := someLinks()
	if err := show(links[:1]); err != nil {
		t.Fatal(err)
	}
	if err := show(links[:2]); err != nil {
		t.Fatal(err)
	}
	links[0].End, links[0].Sent = noon, 5
	if err := show(links[:2]); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		f := strings.Fields(line)
		got = append(got, f[0]+" "+f[slices.IndexFunc(f, func(s string) bool { return s == "STATE" || s == "open" || s == "closed" })])
	}
	if diff := cmp.Diff([]string{"SOURCE STATE", "web.shop open", "rogue.lab closed", "web.shop closed"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s\n%s", diff, out.String())
	}
}

// TestFollowEnds: a control plane that goes away is said.
func TestFollowEnds(t *testing.T) {
	var out bytes.Buffer
	v := fakeViews{"GET /connections": someLinks(), "GET /events": "event: facts\ndata: 1\n\n"}.client(t)
	err := (&connections{e: &env{Config: Config{Out: &out}}}).follow(t.Context(), v)
	if err == nil || err.Error() != "the fake ended the stream of changes" {
		t.Error(err)
	}
	if strings.Count(out.String(), "\n") != 4 {
		t.Errorf("%s", out.String())
	}
}

func someLedger() *truth.PlainLedger {
	return &truth.PlainLedger{
		At: noon, Since: noon.Add(-12 * 24 * time.Hour),
		Lines: []truth.Plain{
			{Source: rogue, Destination: boards, Port: 8080, First: noon.Add(-50 * time.Hour), Last: noon.Add(-time.Minute), Count: 14, Open: 1, Security: mesh.Plaintext,
				Why: "rogue.lab has no sidecar", Fix: "give rogue.lab a sidecar"},
			{Source: nobody, Destination: boards, Port: 8080, First: noon.Add(-time.Hour), Last: noon.Add(-time.Hour), Count: 1, Security: mesh.PassedTLS, Why: "it speaks TLS of its own"},
			{Source: web, Destination: boards, Port: 8080, First: noon.Add(-9 * 24 * time.Hour), Last: noon.Add(-8 * 24 * time.Hour), Count: 3, Security: mesh.Plaintext,
				MutualSince: noon.Add(-7 * 24 * time.Hour)},
		},
		Servers: []truth.Called{{Namespace: "shop", Name: "boards", Meshed: true, Plain: 2}, {Namespace: "shop", Name: "web", Meshed: true}, {Namespace: "lab", Name: "old"}},
		Blind:   []string{"shop/silent"},
	}
}

func TestPlaintextLedger(t *testing.T) {
	var out bytes.Buffer
	if err := writeLedger(&out, someLedger(), false); err != nil {
		t.Fatal(err)
	}
	golden(t, "plaintext", out.String())
}

func TestIsStrictSafe(t *testing.T) {
	for _, c := range []struct {
		name    string
		servers []truth.Called
		want    string
	}{
		{"nothing was called", nil, "Nothing was called yet, so nothing can be said about STRICT."},
		{"one", []truth.Called{{Namespace: "shop", Name: "web", Meshed: true}}, "No plaintext for 12 days: STRICT is safe for the one server that was called, web.shop."},
		{"two", []truth.Called{{Namespace: "shop", Name: "web", Meshed: true}, {Namespace: "shop", Name: "boards", Meshed: true}}, "No plaintext for 12 days: STRICT is safe for all 2 servers that were called."},
		{"none can", []truth.Called{{Namespace: "lab", Name: "old"}}, "No plaintext for 12 days.\nNo sidecar could enforce STRICT at old.lab."},
	} {
		if got := safety(&truth.PlainLedger{At: noon, Since: noon.Add(-12 * 24 * time.Hour), Servers: c.servers}); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

func TestLimitLedger(t *testing.T) {
	for _, c := range []struct{ workload, namespace, want string }{
		{"boards", "", "3 lines of boards.shop"},
		{"boards.shop", "", "3 lines of boards.shop"},
		{"shop/boards-1", "", "3 lines of boards.shop"},
		{"web", "shop", "0 lines of web.shop"},
		{"", "lab", "0 lines of old.lab"},
		{"rogue", "", "nobody called rogue since 2026-11-12 12:00:00; there were calls of boards.shop, old.lab, web.shop"},
	} {
		l := someLedger()
		got := ""
		if err := limitLedger(l, c.workload, c.namespace); err != nil {
			got = err.Error()
		} else {
			var names []string
			for _, s := range l.Servers {
				names = append(names, s.Name+"."+s.Namespace)
			}
			got = strings.Replace("N lines of "+strings.Join(names, " "), "N", string(rune('0'+len(l.Lines))), 1)
		}
		if got != c.want {
			t.Errorf("%q in %q: %s, want %s", c.workload, c.namespace, got, c.want)
		}
	}
}

func TestPostmortem(t *testing.T) {
	at := noon.Add(-3 * time.Second)
	cert := func(id string) *mesh.Certificate {
		return &mesh.Certificate{Identity: id, Issuer: "CN=root", Serial: "0a", NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour)}
	}
	p := &truth.Postmortem{
		Link: truth.Link{Trace: "dddd", Source: web, Destination: boards, Port: 8080, Security: mesh.Unknown, Allowed: true, Start: at, End: at,
			AtSource: &truth.Connection{Node: "shop/web-1", Connection: mesh.Connection{
				Source: netip.MustParseAddrPort("10.0.0.1:40000"), Destination: netip.MustParseAddrPort("10.96.0.1:8080"),
				Local: netip.MustParseAddrPort("10.0.0.1:40002"), Upstream: netip.MustParseAddrPort("10.0.0.2:8080"),
				Rule: mesh.Origin{Kind: "DestinationRule", Namespace: "shop", Name: "boards", Level: "service"}, Mode: "ISTIO_MUTUAL", Generation: 7,
				Failure: &mesh.Failure{Stage: "handshake", Reason: "wrong_identity", Error: "tls: not whom I expected", Expected: []string{"spiffe://cluster.local/ns/shop/sa/boards"},
					Presented: cert("spiffe://cluster.local/ns/shop/sa/default"), TrustDomain: "cluster.local", SNI: "outbound_.8080_._.boards", Offered: []string{"istio"}, At: at}}},
			AtDestination: &truth.Connection{Node: "shop/boards-1", Connection: mesh.Connection{Failure: &mesh.Failure{Stage: "handshake", Reason: "alert", Error: "remote error: bad certificate", ByPeer: true, At: at}}},
		},
		Sentence: "boards.shop showed the identity of default.", Fix: "Let boards run as ServiceAccount boards.", DestinationSkew: 90 * time.Second,
	}
	var out bytes.Buffer
	if err := writePostmortem(&out, p, noon); err != nil {
		t.Fatal(err)
	}
	golden(t, "why", out.String())
}

func TestWhyUnknown(t *testing.T) {
	v := fakeViews{"GET /why": truth.Postmortem{}}.client(t)
	if _, err := askWhy(t.Context(), v, " 12AB ", func() {}); err == nil || err.Error() != "nobody knows 12ab" {
		t.Error(err)
	}
}

// TestWhyWaits: what a proxy tells a moment after we ask is not unknown.
func TestWhyWaits(t *testing.T) {
	fake := fakeViews{"GET /why": truth.Postmortem{Sentence: "it was refused"}, "GET /events": "event: facts\ndata: 1\n\nevent: facts\ndata: 2\n\n"}
	var asked atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/why" && asked.Add(1) > 1 {
			r.URL.RawQuery = "id=known"
		}
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	v := viewsAt(srv)
	waited := 0
	if p, err := askWhy(t.Context(), v, "12ab", func() { waited++ }); err != nil || p.Sentence == "" || waited != 1 || asked.Load() != 2 {
		t.Errorf("%+v, %v; said that it waits %d times, asked %d times", p, err, waited, asked.Load())
	}
}

// TestAddresses: a gateway's client dialled the gateway, not a service.
func TestAddresses(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2")
	for want, c := range map[string][2]netip.AddrPort{"": {}, "from 10.0.0.1:1": {a}, "10.0.0.1:1 > 10.0.0.2:2": {a, b}} {
		if got := fromTo(c[0], c[1]); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestSizesAndTimes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 12_345: "12 kB", 999_600: "1.0 MB", 1 << 63: "9.2 EB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-time.Second: "0s", 59 * time.Second: "59s", 90 * time.Minute: "1h", 47 * time.Hour: "47h", 48 * time.Hour: "2d"} {
		if got := howLong(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
	if got := spelled(time.Hour); got != "1 hour" {
		t.Error(got)
	}
}
