package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hasp/truth"
)

// someAnswer has one of each kind.
func someAnswer() *truth.Answer {
	api := truth.Party{Workload: "shop/api-1", Owner: "api", Namespace: "shop", Meshed: true}
	return &truth.Answer{
		Generation: 7, Since: noon.Add(-48 * time.Hour),
		Objects: []string{"PeerAuthentication shop/default created", "DestinationRule shop/mtls changed"},
		Effects: []truth.Effect{
			{What: truth.Cut, Source: rogue, Destination: boards, Port: 8080, Live: 2, Last: noon.Add(-3 * time.Minute), Why: "STRICT of PeerAuthentication shop/default (namespace) requires mutual TLS and the client spoke plaintext", Fix: "give rogue.lab a sidecar"},
			{What: truth.Cut, Source: nobody, Destination: boards, Port: 8080, Last: noon.Add(-26 * time.Hour), Why: "the same", Fix: "give rogue.lab a sidecar"},
			{What: truth.Weakened, Source: api, Destination: boards, Port: 9090, Why: "DISABLE of DestinationRule shop/mtls (service)", Fix: "set tls.mode of it to ISTIO_MUTUAL first"},
			{What: truth.Upgraded, Source: web, Destination: boards, Port: 8080, Live: 1, Last: noon, Pods: []string{"shop/web-1", "shop/web-2"}, Why: "web.shop speaks mutual TLS, mode AUTO"},
		},
		Warnings: []string{"PeerAuthentication shop/default: so\x1b[2Jthere"},
		Blind:    []string{"shop/silent-1"},
	}
}

func TestWhatIfAnswer(t *testing.T) {
	var out bytes.Buffer
	if err := writeAnswer(&out, someAnswer(), noon, 0, false); err != nil {
		t.Fatal(err)
	}
	out.WriteString("----\n")
	calm := &truth.Answer{Objects: []string{"Service shop/boards unchanged"}}
	if err := writeAnswer(&out, calm, noon, 0, false); err != nil {
		t.Fatal(err)
	}
	out.WriteString("----\n")
	better := someAnswer()
	better.Effects, better.Warnings, better.Blind = better.Effects[3:], nil, nil
	if err := writeAnswer(&out, better, noon, 0, true); err != nil {
		t.Fatal(err)
	}
	golden(t, "what-if", out.String())
}

// What is wrong with the manifests is said before anybody is asked.
func TestWhatIfStatus(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec:\n  mtls: {mode: STRICKT}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, 2, "say which manifests"},
		{[]string{"-o", "yaml", "-f", file}, 2, "only json is known"},
		{[]string{"-f", filepath.Join(dir, "none.yaml")}, 1, "none.yaml"},
		{[]string{"-f", "bad.yaml"}, 1, "bad.yaml:5: "},
		{[]string{"-f", "-"}, 1, "there is no object"},
		{[]string{"file.yaml"}, 2, "unknown command"},
	} {
		var errOut bytes.Buffer
		status := Run(context.Background(), Config{Args: append([]string{"what-if"}, c.args...), In: strings.NewReader(""), Out: &errOut, Err: &errOut, Dir: dir, StateDir: filepath.Join(dir, "state")})
		if status != c.status || !strings.Contains(errOut.String(), c.want) {
			t.Errorf("%v: status %d, %s", c.args, status, errOut.String())
		}
	}
}
