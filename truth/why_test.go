package truth_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hasp/mesh"
	"hasp/truth"
)

var update = flag.Bool("update", false, "write testdata/why.txt anew")

// failed is a way for a connection of web-1 to api-1 to fail. In out and in the
// fields of both are those of a mutual TLS that came about.
type failed struct {
	name         string
	more         string // manifests
	change       func(out, in *mesh.Connection)
	noOut, noIn  bool
	webAt, apiAt time.Duration // what their clocks are ahead
	reportless   string        // a node whose proxy is gone
}

func failure(stage, reason string) *mesh.Failure {
	return &mesh.Failure{Stage: stage, Reason: reason, TrustDomain: "cluster.local", At: after(10 * time.Second)}
}

// alerted is the end that only saw an alert.
func alerted() *mesh.Failure {
	f := failure(mesh.StageHandshake, mesh.ReasonAlert)
	f.ByPeer, f.Error = true, "remote error: tls: bad certificate"
	return f
}

func certificate(identity string, from, to time.Time) *mesh.Certificate {
	return &mesh.Certificate{Identity: identity, Issuer: "O=hasp,CN=root 1", Serial: "1", NotBefore: from, NotAfter: to}
}

// never: the connection was not let through, and nobody knows how it speaks.
func never(c *mesh.Connection, f *mesh.Failure) {
	c.Failure, c.Allowed, c.Security, c.TLS, c.Group = f, false, mesh.Unknown, "", ""
}

// byServer: the server's proxy refuses, the client's sees an alert.
func byServer(f *mesh.Failure) func(out, in *mesh.Connection) {
	return func(out, in *mesh.Connection) {
		never(out, alerted())
		never(in, f)
		in.PeerIdentity = ""
	}
}

// byClient: the other way round.
func byClient(f *mesh.Failure) func(out, in *mesh.Connection) {
	return func(out, in *mesh.Connection) {
		never(out, f)
		never(in, alerted())
		out.PeerIdentity, in.PeerIdentity = "", ""
	}
}

func shown(f *mesh.Failure, c *mesh.Certificate) *mesh.Failure {
	f.Presented = c
	return f
}

var failures = []failed{
	{name: "nothing: it is mutual TLS"},
	{name: "nothing: it is plaintext, by a rule", more: disable, change: func(out, in *mesh.Connection) {
		out.Security, in.Security, out.TLS, in.TLS, out.Why = mesh.Plaintext, mesh.Plaintext, "", "", "DISABLE of DestinationRule shop/api (service)"
		out.Mode, out.Rule = "DISABLE", mesh.Origin{Kind: "DestinationRule", Namespace: "shop", Name: "api", Level: mesh.LevelService}
	}},
	{name: "the client's certificate has expired",
		change: byServer(shown(failure(mesh.StageHandshake, mesh.ReasonExpired), certificate(id("web"), after(-25*time.Hour), after(-time.Hour))))},
	{name: "the server's clock is two hours ahead", apiAt: 2 * time.Hour, change: func(out, in *mesh.Connection) {
		f := shown(failure(mesh.StageHandshake, mesh.ReasonExpired), certificate(id("web"), after(-23*time.Hour), after(time.Hour)))
		f.At = f.At.Add(2 * time.Hour)
		byServer(f)(out, in)
	}},
	{name: "the server's certificate is of the future, for a client whose clock is behind", webAt: -5 * time.Minute, change: func(out, in *mesh.Connection) {
		f := shown(failure(mesh.StageHandshake, mesh.ReasonNotYetValid), certificate(id("api"), after(-time.Minute), after(24*time.Hour)))
		f.At = f.At.Add(-5 * time.Minute)
		byClient(f)(out, in)
	}},
	{name: "the CA's clock is ahead",
		change: byClient(shown(failure(mesh.StageHandshake, mesh.ReasonNotYetValid), certificate(id("api"), after(time.Hour), after(24*time.Hour))))},
	{name: "another CA signed it", change: func(out, in *mesh.Connection) {
		f := shown(failure(mesh.StageHandshake, mesh.ReasonUnknownAuthority), certificate(id("web"), noon, after(time.Hour)))
		f.Presented.Issuer, f.Own = "CN=somebody", certificate(id("api"), noon, after(time.Hour))
		byServer(f)(out, in)
	}},
	{name: "a stranger's CA signed it", noOut: true, change: func(_, in *mesh.Connection) {
		f := shown(failure(mesh.StageHandshake, mesh.ReasonUnknownAuthority), certificate(id("web"), noon, after(time.Hour)))
		f.Presented.Issuer = "CN=somebody"
		never(in, f)
		in.Source, in.PeerIdentity = addr("192.0.2.7:1"), ""
	}},
	{name: "somebody else answers", change: func(out, in *mesh.Connection) {
		f := shown(failure(mesh.StageHandshake, mesh.ReasonWrongIdentity), certificate(id("api"), noon, after(time.Hour)))
		f.Expected = []string{id("bank")}
		byClient(f)(out, in)
	}},
	{name: "of another trust domain",
		change: byServer(shown(failure(mesh.StageHandshake, mesh.ReasonOtherTrustDomain), certificate("spiffe://other.example/ns/shop/sa/web", noon, after(time.Hour))))},
	{name: "no certificate at all", noOut: true, change: func(_, in *mesh.Connection) {
		never(in, failure(mesh.StageHandshake, mesh.ReasonNoCertificate))
		in.Source, in.PeerIdentity = addr("10.0.0.3:1"), ""
	}},
	{name: "no certificate of its own yet", noIn: true, change: func(out, _ *mesh.Connection) {
		never(out, failure(mesh.StageHandshake, mesh.ReasonNoOwnCertificate))
		out.PeerIdentity = ""
	}},
	{name: "plaintext to STRICT from a pod without a sidecar", more: strict, noOut: true, change: func(_, in *mesh.Connection) {
		never(in, failure(mesh.StagePolicy, mesh.ReasonPlaintext))
		in.Source, in.Security, in.PeerIdentity = addr("10.0.0.3:1"), mesh.Plaintext, ""
	}},
	{name: "plaintext to STRICT by a rule", more: strict + "---" + disable, change: func(out, in *mesh.Connection) {
		f := failure(mesh.StageAnswer, mesh.ReasonReset)
		f.ByPeer = true
		never(out, f)
		never(in, failure(mesh.StagePolicy, mesh.ReasonPlaintext))
		out.Security, in.Security = mesh.Plaintext, mesh.Plaintext
	}},
	{name: "TLS to a server without a sidecar", noIn: true, change: func(out, _ *mesh.Connection) {
		never(out, failure(mesh.StageHandshake, mesh.ReasonPlaintext))
		out.Upstream, out.PeerIdentity = addr("10.0.0.3:8080"), ""
		out.Mode, out.Rule = "ISTIO_MUTUAL", mesh.Origin{Kind: "DestinationRule", Namespace: "shop", Name: "api", Level: mesh.LevelService}
	}},
	{name: "denied", change: func(out, in *mesh.Connection) {
		f := failure(mesh.StageAnswer, mesh.ReasonReset)
		f.ByPeer = true
		out.Failure, out.Allowed = f, false
		in.Failure, in.Allowed = failure(mesh.StagePolicy, mesh.ReasonDenied), false
		in.Why = "AuthorizationPolicy shop/only-front (workload) does not allow " + id("web")
		in.Rule = mesh.Origin{Kind: "AuthorizationPolicy", Namespace: "shop", Name: "only-front", Level: mesh.LevelWorkload}
	}},
	{name: "cut while it lived", change: func(out, in *mesh.Connection) {
		in.Allowed, in.End = false, after(20*time.Second)
		in.Why = "AuthorizationPolicy shop/only-front (workload) does not allow " + id("web")
		in.Rule = mesh.Origin{Kind: "AuthorizationPolicy", Namespace: "shop", Name: "only-front", Level: mesh.LevelWorkload}
	}},
	{name: "no service claims it", noIn: true, change: func(out, _ *mesh.Connection) {
		never(out, failure(mesh.StagePolicy, mesh.ReasonNoService))
		out.Destination, out.Upstream, out.Service, out.PeerIdentity = addr("192.0.2.9:443"), addr0, "", ""
	}},
	{name: "nobody listens at the pod", noIn: true, change: func(out, _ *mesh.Connection) {
		never(out, failure(mesh.StageDial, mesh.ReasonRefused))
		out.PeerIdentity = ""
	}},
	{name: "the application does not listen", change: func(out, in *mesh.Connection) {
		f := failure(mesh.StageHandshake, mesh.ReasonReset)
		f.ByPeer = true
		never(out, f)
		never(in, failure(mesh.StageDial, mesh.ReasonNotListening))
	}},
	{name: "no endpoint", noIn: true, change: func(out, _ *mesh.Connection) {
		never(out, failure(mesh.StageDial, mesh.ReasonNoEndpoint))
		out.Upstream, out.Local, out.PeerIdentity = addr0, addr0, ""
	}},
	{name: "no answer", noIn: true, change: func(out, _ *mesh.Connection) {
		never(out, failure(mesh.StageDial, mesh.ReasonTimeout))
		out.PeerIdentity = ""
	}},
	{name: "an alert, and the other end has no record", noIn: true, change: func(out, _ *mesh.Connection) { never(out, alerted()) }},
	{name: "an alert, and the other end does not report", noIn: true, reportless: "shop/api-1", change: func(out, _ *mesh.Connection) { never(out, alerted()) }},
}

// TestWhy is a page of sentences, each with what to do.
func TestWhy(t *testing.T) {
	var page strings.Builder
	for _, c := range failures {
		w := build(t, town, c.more)
		b := booked(t, w, "web-1", "api-1")
		at := after(10 * time.Second)
		out, in := both(traced(c.name), at)
		in.Mode, in.Rule = "STRICT", mesh.Origin{Kind: "PeerAuthentication", Namespace: "shop", Name: "default", Level: mesh.LevelNamespace}
		if c.change != nil {
			c.change(&out, &in)
		}
		now := after(20 * time.Second)
		tell := func(node string, ahead time.Duration, row mesh.Connection, skip bool) {
			row.Start, row.LastSeen = row.Start.Add(ahead), row.LastSeen.Add(ahead)
			rows := []mesh.Connection{row}
			if skip {
				rows = nil
			}
			take(t, b, w, report(node, now.Add(ahead), rows), now)
		}
		tell("web-1", c.webAt, out, c.noOut)
		tell("api-1", c.apiAt, in, c.noIn)
		b.Gone(c.reportless, now)
		p, ok := truth.Why(w, b.Facts(7, now), traced(c.name)[:8])
		if !ok {
			t.Errorf("%s: not found", c.name)
		}
		fmt.Fprintf(&page, "# %s\n%s\n-> %s\n\n", c.name, p.Sentence, p.Fix)
	}
	const file = "testdata/why.txt"
	if *update {
		if err := os.WriteFile(file, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), page.String()); diff != "" {
		t.Errorf("go test ./truth -update writes it anew (-want +got)\n%s", diff)
	}
}

// TestWhich: what part of an id is enough, and which of several is told.
func TestWhich(t *testing.T) {
	w := build(t, town)
	b := booked(t, w, "web-1")
	var rows []mesh.Connection
	for i, tr := range []string{"abcdef0000000001", "abcdef0000000002", "1234560000000003"} {
		out, _ := both(tr, after(time.Duration(i+1)*time.Second))
		out.ID = uint64(i + 1)
		rows = append(rows, out)
	}
	line := outEdge(mesh.MutualTLS, noon, noon, 9)
	line.LastTrace = "9999990000000004"
	now := after(4 * time.Second)
	take(t, b, w, report("web-1", now, rows, line), now)
	for id, want := range map[string]string{
		"abcdef":             "abcdef0000000002: web.shop called api.shop:80 by mutual TLS (1.3, X25519MLKEM768) (2 connections have an id that begins with abcdef; this is the newest)",
		" ABCDEF0000000001 ": "abcdef0000000001: web.shop called api.shop:80 by mutual TLS (1.3, X25519MLKEM768)",
		"123456":             "1234560000000003: web.shop called api.shop:80 by mutual TLS (1.3, X25519MLKEM768)",
		"999999":             "9999990000000004: web.shop called api.shop:80 by mutual TLS (1.3, X25519MLKEM768); its own record is forgotten, this is from the ledger",
		"abcde":              "", "777777": "", "": "",
	} {
		p, ok := truth.Why(w, b.Facts(7, now), id)
		if got := p.Trace + ": " + p.Sentence; ok != (want != "") || ok && got != want {
			t.Errorf("%q: %t %s\nwant %s", id, ok, got, want)
		}
	}
}
