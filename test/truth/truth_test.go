// Package truth is the rung that asks a mesh what really happened: who speaks
// plaintext and why, what both ends of a connection say of it, what became of one
// that failed, and what is still known after a restart. The questions are those
// that a person types.
package truth

import (
	_ "embed"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hasp/test/meshtest"
)

//go:embed testdata/shop.yaml
var shop string

const (
	strict = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
`
	// wrongServer is expected by no certificate of the mesh.
	wrongServer = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: api}
spec:
  host: api
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL, subjectAltNames: ["spiffe://cluster.local/ns/shop/sa/somebody-else"]}}
`
)

// told is more than facts take from a proxy to an answer, on a loaded machine
// too.
const told = time.Minute

// party, link and ledger are what a script would read of the commands' JSON.
type party struct {
	Workload, Owner, Namespace, Address, Identity string
	Meshed                                        bool
}

type end struct{ Node, Trace, Security, Group, PeerIdentity string }

type link struct {
	Trace, Seen, Security, Why, Disagreement string
	Source, Destination                      party
	Allowed                                  bool
	Rule                                     struct{ Kind, Namespace, Name string }
	Handshake                                *struct{ TLS, Group, LocalIdentity, PeerIdentity string }
	AtSource, AtDestination                  *end
}

type ledger struct {
	Since time.Time
	Lines []struct {
		Source, Destination party
		First               time.Time
		Count               uint64
		Why, Fix            string
		MutualSince         time.Time
	}
}

func TestTruth(t *testing.T) {
	meshtest.Need(t, "sh", "curl", "python3")
	meshtest.EachUser(t, func(t *testing.T, u meshtest.User) {
		m := meshtest.Start(t, meshtest.Options{User: u})
		m.Apply(t, shop)
		m.Available(t)
		plaintextIsTold(t, m)
		bothEndsAgree(t, m, "web")
		tlsCheck(t, m)
		clientJoins(t, m)
		m.Change(t, func() { m.Apply(t, strict) })
		bothEndsAgree(t, m, "old")
		rogueIsRefused(t, m)
		failureIsExplained(t, m)
		ledgerSurvives(t, m)
	})
}

// plaintextIsTold: before anybody demands mutual TLS it is known who would be
// cut.
func plaintextIsTold(t *testing.T, m *meshtest.Mesh) {
	var l ledger
	meshtest.Eventually(t, told, "the ledger has the client without a sidecar", func() bool {
		l = ask[ledger](t, m, "plaintext", "-o", "json")
		return len(l.Lines) > 0
	})
	line := l.Lines[0]
	if len(l.Lines) != 1 || line.Source.Owner != "old" || line.Destination.Owner != "api" || line.Count == 0 {
		t.Fatalf("the ledger is not old's line alone: %+v", l.Lines)
	}
	if !strings.Contains(line.Why, "sidecar") || line.Fix == "" {
		t.Errorf("why %q, fix %q", line.Why, line.Fix)
	}
	if r := m.Hasp(t, "plaintext", "--check"); r.Exit != 3 {
		t.Errorf("hasp plaintext --check: exit status %d, want 3\n%s", r.Exit, r.Output())
	}
	r := m.Hasp(t, "plaintext", "api").Must(t)
	for _, want := range []string{`(?m)^api\.shop:8080$`, `(?m)^  from old\.shop: (once|\d+ times), first `, `(?m)^STRICT is not safe for the one server that was called in .*: api\.shop\.$`} {
		if !regexp.MustCompile(want).MatchString(r.Stdout) {
			t.Errorf("hasp plaintext has no %q:\n%s", want, r.Stdout)
		}
	}
	if line.First.IsZero() {
		t.Error("the line does not say since when")
	}
}

// bothEndsAgree: a connection of a client is mutual TLS, said by both ends
// under one name.
func bothEndsAgree(t *testing.T, m *meshtest.Mesh, client string) {
	var l link
	meshtest.Eventually(t, told, "both ends tell of a connection of "+client+" with mutual TLS", func() bool {
		links := ask[[]link](t, m, "connections", client, "-o", "json")
		i := slices.IndexFunc(links, func(l link) bool {
			return l.Source.Owner == client && l.Destination.Owner == "api" && l.Security == "mutual_tls" && l.Seen == "both"
		})
		if i >= 0 {
			l = links[i]
		}
		return i >= 0
	})
	switch {
	case l.Handshake == nil || l.Handshake.TLS != "1.3" || l.Handshake.Group != "X25519MLKEM768":
		t.Errorf("%s: the handshake is %+v, want TLS 1.3 with X25519MLKEM768", client, l.Handshake)
	case l.AtSource == nil || l.AtDestination == nil:
		t.Errorf("%s: seen by both, but the records are %v and %v", client, l.AtSource, l.AtDestination)
	case l.Trace == "" || l.AtSource.Trace != l.Trace || l.AtDestination.Trace != l.Trace:
		t.Errorf("%s: the traces are %q, %q and %q", client, l.Trace, l.AtSource.Trace, l.AtDestination.Trace)
	case l.AtSource.Group != l.AtDestination.Group || l.AtSource.Security != l.AtDestination.Security:
		t.Errorf("%s: the ends say %+v and %+v", client, l.AtSource, l.AtDestination)
	case !l.Allowed || l.Disagreement != "":
		t.Errorf("%s: allowed %v, disagreement %q", client, l.Allowed, l.Disagreement)
	}
}

// tlsCheck: the configuration says mutual TLS, and so do the facts.
func tlsCheck(t *testing.T, m *meshtest.Mesh) {
	type row struct {
		Status, Verdict, Headline string
		Acked                     bool
		Seen                      *struct{ TLS, Group, LocalIdentity, PeerIdentity string }
	}
	var rows []row
	meshtest.Eventually(t, told, "the proxies of both ends tell that they have the newest configuration", func() bool {
		rows = ask[[]row](t, m, "authn", "tls-check", "web", "api", "-o", "json")
		return len(rows) > 0 && rows[0].Acked
	})
	if len(rows) != 1 || rows[0].Verdict != rows[0].Status || rows[0].Headline != "" {
		t.Fatalf("tls-check: %+v", rows)
	}
	const id = "spiffe://cluster.local/ns/shop/sa/default"
	if s := rows[0].Seen; s == nil || s.TLS != "1.3" || s.Group != "X25519MLKEM768" || s.LocalIdentity != id || s.PeerIdentity != id {
		t.Errorf("tls-check has seen %+v", s)
	}
	wide := m.Hasp(t, "authn", "tls-check", "web", "api", "-o", "wide").Must(t)
	if want := regexp.MustCompile(`VERDICT\n.* yes +\d+[sm] ago, 1\.3 X25519MLKEM768 .* AUTO\n`); !want.MatchString(wide.Stdout) {
		t.Errorf("tls-check -o wide:\n%s", wide.Stdout)
	}
}

// clientJoins: with a sidecar the client is no hindrance any more.
func clientJoins(t *testing.T, m *meshtest.Mesh) {
	m.Kubectl(t, "patch", "deployment", "old", "-p", `{"spec":{"template":{"metadata":{"annotations":{"sidecar.istio.io/inject":"true"}}}}}`).Must(t)
	m.Kubectl(t, "rollout", "status", "deployment/old", "--timeout=180s").Must(t)
	meshtest.Eventually(t, told, "STRICT is safe once the client has a sidecar", func() bool {
		return m.Hasp(t, "plaintext", "--check").Exit == 0
	})
	l := ask[ledger](t, m, "plaintext", "-o", "json")
	if len(l.Lines) != 1 || l.Lines[0].MutualSince.IsZero() {
		t.Errorf("the line that was is not kept: %+v", l.Lines)
	}
}

// rogueIsRefused: who was refused is named, and hasp why says why.
func rogueIsRefused(t *testing.T, m *meshtest.Mesh) {
	if r := m.Client(t, meshtest.Client{Name: "rogue", Command: []string{"curl", "-sS", "http://api:8080/"}}); r.Exit != 56 {
		t.Errorf("the rogue's curl: exit status %d, want 56\n%s", r.Exit, r.Output())
	}
	var l link
	meshtest.Eventually(t, told, "the rogue's connection is told", func() bool {
		r := m.Hasp(t, "connections", "rogue", "-o", "json")
		links := parse[[]link](t, r.Stdout)
		// It may be told before it has said a word, and a curl that is slow to
		// connect tries the other family too, and leaves that without one.
		i := slices.IndexFunc(links, func(l link) bool { return l.Security != "unknown" })
		if i >= 0 {
			l = links[i]
		}
		return r.Exit == 0 && i >= 0
	})
	if l.Allowed || l.Security != "none" || l.Source.Workload != "shop/rogue" || l.Source.Meshed || l.Rule.Name != "default" || l.Rule.Kind != "PeerAuthentication" {
		t.Errorf("the rogue's connection: %+v", l)
	}
	r := m.Hasp(t, "why", l.Trace).Must(t)
	if !strings.Contains(r.Stdout, "rogue.shop to api.shop:8080, plaintext, refused") || !strings.Contains(r.Stdout, "PeerAuthentication shop/default") {
		t.Errorf("hasp why:\n%s", r.Stdout)
	}
	if r := m.Hasp(t, "why", "0123456789abcdef"); r.Exit != 1 || !strings.HasPrefix(r.Stderr, "hasp: no connection ") {
		t.Errorf("hasp why of nothing: exit status %d\n%s", r.Exit, r.Output())
	}
}

var traceHeader = regexp.MustCompile(`(?im)^x-hasp-trace: ([0-9a-f]{16})\r?$`)

// failureIsExplained: the answer that a client's proxy gives in place of the
// server's carries the name of the connection, and both ends have a record of
// how it failed.
func failureIsExplained(t *testing.T, m *meshtest.Mesh) {
	m.Change(t, func() { m.Apply(t, wrongServer) })
	r := m.Client(t, meshtest.Client{Name: "wary", Meshed: true, Command: []string{"curl", "-sS", "-i", "http://api:8080/"}})
	header := traceHeader.FindStringSubmatch(r.Stdout)
	if header == nil || !strings.Contains(r.Stdout, " 503 ") {
		t.Fatalf("no 503 with x-hasp-trace:\n%s", r.Output())
	}
	if strings.Count(r.Stdout, header[1]) < 2 {
		t.Errorf("the text of the 503 does not name the connection:\n%s", r.Stdout)
	}
	type postmortem struct {
		link
		Sentence, Fix string
		AtSource      *struct {
			Failure *struct {
				Stage, Reason string
				Expected      []string
				Presented     *struct{ Identity string }
			}
		}
		AtDestination *struct{ Failure *struct{ Stage string } }
	}
	var p postmortem
	meshtest.Eventually(t, told, "both ends tell how it failed", func() bool {
		r := m.Hasp(t, "why", header[1], "-o", "json")
		p = postmortem{}
		return r.Exit == 0 && json.Unmarshal([]byte(r.Stdout), &p) == nil && p.AtSource != nil && p.AtSource.Failure != nil && p.AtDestination != nil && p.AtDestination.Failure != nil
	})
	f := p.AtSource.Failure
	if f.Stage != "handshake" || f.Reason != "wrong_identity" || !slices.Equal(f.Expected, []string{"spiffe://cluster.local/ns/shop/sa/somebody-else"}) ||
		f.Presented == nil || f.Presented.Identity != "spiffe://cluster.local/ns/shop/sa/default" {
		t.Errorf("at the client: %+v", f)
	}
	if p.Sentence == "" || p.Fix == "" {
		t.Errorf("sentence %q, fix %q", p.Sentence, p.Fix)
	}
	text := m.Hasp(t, "why", header[1]).Must(t).Stdout
	for _, want := range []string{p.Sentence, p.Fix, "DestinationRule shop/api", "somebody-else"} {
		if !strings.Contains(text, want) {
			t.Errorf("hasp why does not say %q:\n%s", want, text)
		}
	}
	m.Kubectl(t, "delete", "dr", "api").Must(t)
}

// ledgerSurvives a stop and a start.
func ledgerSurvives(t *testing.T, m *meshtest.Mesh) {
	before := ask[ledger](t, m, "plaintext", "-o", "json")
	if len(before.Lines) != 1 {
		t.Fatalf("before the restart the ledger is %+v, want old's line", before.Lines)
	}
	first := before.Lines[0].First
	m.Hasp(t, "down").Must(t)
	m.Up(t)
	l := ask[ledger](t, m, "plaintext", "-o", "json")
	if len(l.Lines) != 1 || l.Lines[0].Source.Owner != "old" || !l.Lines[0].First.Equal(first) {
		t.Errorf("after a restart the ledger is %+v, want old's line since %s", l.Lines, first)
	}
}

func ask[T any](t *testing.T, m *meshtest.Mesh, args ...string) T {
	t.Helper()
	r := m.Hasp(t, args...)
	if r.Err != nil && r.Exit != 1 { // nothing is known yet
		t.Fatalf("%s: %v\n%s", r.Line, r.Err, r.Output())
	}
	return parse[T](t, r.Stdout)
}

// parse an answer; none is the zero value.
func parse[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if text == "" {
		return v
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return v
}
