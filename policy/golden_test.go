package policy_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"hasp/mesh"
	"hasp/policy"
	"hasp/source"
	"hasp/world"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata/*.txtar")

// TestGolden asks the questions of testdata/*.txtar. A case is a sentence (the
// rule it shows), manifests in in.yaml, which stand on testdata/app.yaml, and
// calls: a question, "->" and its whole answer, the objects that lost indented
// under it.
//
//	server NS/WORKLOAD PORT            the mode of a workload's (container) port
//	service HOST:PORT                  the mode behind a service's port
//	client NAME.NS HOST:PORT [SUBSET]  what a client speaks
//	tls NAME.NS HOST:PORT [SUBSET]     the same, with names and files
//	subsets NAME.NS HOST:PORT          the subsets a client sees
//	access NAME.NS HOST:PORT [SUBSET]  whether the caller is let in and why
//	check NAME.NS HOST:PORT [SUBSET]   the verdict and why
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(ar.Files) != 2 || ar.Files[0].Name != "in.yaml" || ar.Files[1].Name != "calls" {
				t.Fatalf("%s: want the sections in.yaml and calls", file)
			}
			w := load(t, ar.Files[0].Data)
			want := string(ar.Files[1].Data)
			got := answers(t, w, want)
			if diff := cmp.Diff(got, answers(t, backwards(w), want)); diff != "" {
				t.Errorf("the answer depends on the order of the objects (-sorted +reversed)\n%s", diff)
			}
			if *update && got != want {
				ar.Files[1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s(-want +got)\n%s", ar.Comment, diff)
			}
		})
	}
}

func load(t *testing.T, in []byte) *world.World {
	t.Helper()
	file := filepath.Join(t.TempDir(), "in.yaml")
	if err := os.WriteFile(file, in, 0o600); err != nil {
		t.Fatal(err)
	}
	w, problems, err := source.FromFiles(nil, "default", "testdata/app.yaml", file)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	return w
}

// backwards is the World with its policies and rules in reverse: what decides
// is their age and their names, never where they stand.
func backwards(w *world.World) *world.World {
	r := *w
	r.Policies = reversed(w.Policies)
	r.PeerAuthentications = reversed(w.PeerAuthentications)
	r.AuthorizationPolicies = reversed(w.AuthorizationPolicies)
	r.DestinationRules = reversed(w.DestinationRules)
	return &r
}

func reversed[T any](s []T) []T {
	s = slices.Clone(s)
	slices.Reverse(s)
	return s
}

// answers asks every question of a section again.
func answers(t *testing.T, w *world.World, calls string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(calls) {
		if strings.HasPrefix(line, " ") {
			continue // part of an answer
		}
		question, _, _ := strings.Cut(line, "->")
		f := strings.Fields(question)
		if len(f) < 2 {
			t.Fatalf("not a question: %q", line)
		}
		fmt.Fprintf(&b, "%s -> %s\n", strings.Join(f, " "), answer(t, w, f[0], f[1:]))
	}
	return b.String()
}

func answer(t *testing.T, w *world.World, verb string, args []string) string {
	t.Helper()
	switch verb {
	case "server":
		wl := w.Workload(args[0])
		if wl == nil {
			t.Fatalf("no workload %s", args[0])
		}
		return server(policy.ServerMode(w, wl, number(t, args[1])))
	case "service":
		svc, port := service(t, w, args[0])
		return server(policy.ServiceMode(w, svc, port))
	}
	name, ns, _ := strings.Cut(args[0], ".")
	from := w.Workload(ns + "/" + name)
	if from == nil {
		t.Fatalf("no workload %s", args[0])
	}
	svc, port := service(t, w, args[1])
	subset := ""
	if len(args) > 2 {
		subset = args[2]
	}
	switch verb {
	case "client":
		return client(policy.ClientTLS(w, from, ns, svc, port, subset))
	case "tls":
		c := policy.ClientTLS(w, from, ns, svc, port, subset)
		return client(c) + names(c.TLS)
	case "subsets":
		var out []string
		for _, s := range policy.Subsets(w, from, ns, svc) {
			out = append(out, fmt.Sprintf("%s %s of %s", s.Name, s.Labels, s.Origin))
		}
		if len(out) == 0 {
			return "none"
		}
		return strings.Join(out, ", ")
	case "access":
		v := policy.Access(w, from, svc, port, subset)
		switch {
		case !v.Allowed:
			return "refused: " + v.Why
		case v.Why == "":
			return "allowed"
		}
		return "allowed: " + v.Why
	case "check":
		v := policy.Check(w, from, svc, port, subset)
		return v.Status + " " + v.Why
	}
	t.Fatalf("unknown question %q", verb)
	return ""
}

func server(s policy.Server) string {
	if s.Mode == mesh.ModeUnset {
		return "unset" + losers(s.Lost)
	}
	return string(s.Mode) + " " + s.Origin.String() + losers(s.Lost)
}

func client(c policy.Client) string {
	word := string(c.Mode)
	switch {
	case c.Auto:
		word = "auto"
	case !c.Set:
		word = "unset"
	}
	if c.Origin.Name != "" {
		word += " " + c.Origin.String()
	}
	return word + losers(c.Lost)
}

func losers(lost []policy.Loser) string {
	var b strings.Builder
	for _, l := range lost {
		fmt.Fprintf(&b, "\n  lost %s: %s", l.Origin, l.Why)
	}
	return b.String()
}

func names(c mesh.ClientTLS) string {
	var b strings.Builder
	for _, kv := range [][2]string{
		{"sni", c.SNI}, {"san", strings.Join(c.SubjectAltNames, " ")},
		{"ca", c.CACertificates}, {"cert", c.ClientCertificate}, {"key", c.PrivateKey},
	} {
		if kv[1] != "" {
			fmt.Fprintf(&b, "\n  %s %s", kv[0], kv[1])
		}
	}
	return b.String()
}

func service(t *testing.T, w *world.World, hostport string) (*mesh.Service, uint16) {
	t.Helper()
	host, port, _ := strings.Cut(hostport, ":")
	svc := w.Service("", host)
	if svc == nil {
		t.Fatalf("no service %s", host)
	}
	return svc, number(t, port)
}

func number(t *testing.T, s string) uint16 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n)
}
