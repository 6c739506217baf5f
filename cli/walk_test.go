package cli

import (
	"strings"
	"testing"

	"hasp/local"
)

func TestStepCheck(t *testing.T) {
	s := step{run: "x", exit: 56, want: []string{`Connection reset`}, deny: []string{`"something"`}}
	for _, c := range []struct {
		exit   int
		output string
		want   string
	}{
		{56, "curl: (56) Connection reset by peer", ""},
		{0, "Connection reset", "exit status 0, expected 56"},
		{56, "", `no output like "Connection reset"`},
		{56, `Connection reset "something"`, `output like "\"something\"", which must not be`},
		{0, "", `exit status 0, expected 56; no output like "Connection reset"`},
	} {
		if got := strings.Join(s.check(c.exit, c.output), "; "); got != c.want {
			t.Errorf("check(%d, %q) = %q, want %q", c.exit, c.output, got, c.want)
		}
	}
}

// TestLabIsTheDocuments: the walk types the lab's commands as they stand there.
func TestLabIsTheDocuments(t *testing.T) {
	var commands []string
	for _, s := range lab(local.State{Project: "microservices-demo", Page: "http://127.0.0.1:8080"}) {
		commands = append(commands, s.run)
	}
	all := strings.Join(commands, "\n")
	at := 0
	for _, want := range []string{
		"oc run curl-boards-1 -i --restart=Never --image=appropriate/curl --timeout=10s -- boards:8080/shareditems",
		`sed "s|microservices-demo|$PROJECT_NAME|" ./istio-configuration/policy-mtls.yaml | oc apply -f -`,
		"oc delete dr --all",
		`sed "s|microservices-demo|$PROJECT_NAME|" ./istio-configuration/destinationrule-mtls.yaml | oc apply -f -`,
		"oc run curl-boards-2 -i --restart=Never --image=appropriate/curl --timeout=10s -- boards:8080/shareditems",
		"oc delete policy/default",
		"oc delete dr --all",
	} {
		i := strings.Index(all[at:], want)
		if i < 0 {
			t.Fatalf("the walk lacks, in this place: %s", want)
		}
		at += i + len(want)
	}
}

func TestCommandLines(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"--nope"}, 2, "hasp: unknown flag: --nope; see hasp --help\n"},
		{[]string{"stop"}, 2, "hasp: unknown command \"stop\" for \"hasp\"; see hasp --help\n"},
		{[]string{"demo", "--app", "none"}, 2, "hasp: the demo needs its app: give the directory of its manifests with --app\n"},
		{[]string{"up", "--cert-lifetime", "1s", "--app", "none"}, 2, "hasp: --cert-lifetime 1s is too short; give at least 30s\n"},
		{[]string{"status", "-o", "xml"}, 2, "hasp: -o xml: only json is known\n"},
		{[]string{"authn", "tls-check", "-o", "yaml"}, 2, "hasp: -o yaml: json and wide are known\n"},
		{[]string{"explain", "--from", "a"}, 2, "hasp: say who calls and what it calls: --from WORKLOAD --to HOST:PORT\n"},
		{[]string{"check", "now"}, 2, "hasp: unknown command \"now\" for \"hasp check\"; see hasp check --help\n"},
		{[]string{"authn", "tls-check", "a", "b", "c"}, 2, "hasp: accepts at most 2 arg(s), received 3; see hasp authn tls-check --help\n"},
		{[]string{"status"}, 3, ""},
		{[]string{"down"}, 0, ""},
	} {
		var out, errOut strings.Builder
		code := Run(t.Context(), Config{Args: c.args, Name: "hasp", Executable: "/nowhere/hasp", Out: &out, Err: &errOut, Dir: "/", StateDir: t.TempDir()})
		got := strings.TrimPrefix(errOut.String(), "stopping the mesh ...\n")
		if code != c.code || got != c.err {
			t.Errorf("hasp %s: status %d, %q; want %d, %q", strings.Join(c.args, " "), code, got, c.code, c.err)
		}
	}
}
