package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Words at a prompt, from manifests and from kubectl's own code: no mesh runs.
func TestCompletion(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "shop.yaml"), []byte(foretellPods), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"connections -o ":                          "json wide",
		"plaintext -o ":                            "json",
		"inject -o ":                               "yaml json",
		"up --on-demand ":                          "always never",
		"explain -f shop.yaml -n shop --from ":     "boards-1.shop legacy.shop",
		"explain -f shop.yaml -n shop --to ":       "boards.shop.svc.cluster.local:8080",
		"explain -f shop.yaml -n shop -n ":         "shop",
		"authn tls-check -f shop.yaml -n shop ":    "boards-1.shop",
		"authn tls-check -f shop.yaml -n shop x ":  "boards.shop.svc.cluster.local",
		"authn tls-check -f shop.yaml x y ":        "",
		"explain -f nothere.yaml --from ":          "",
		"kubectl config use":                       "use-context",
		"kubectl rollout ":                         "history pause restart resume status undo",
		"verify ":                                  "", // nobody to ask
		"kubectl --kubeconfig nothere get pods x ": "",
	} {
		words := strings.Fields(line)
		if strings.HasSuffix(line, " ") {
			words = append(words, "")
		}
		var out, errOut bytes.Buffer
		if code := Run(t.Context(), Config{Args: append([]string{"__complete"}, words...), Name: "hasp", In: strings.NewReader(""), Out: &out, Err: &errOut, Dir: dir, StateDir: t.TempDir()}); code != 0 {
			t.Errorf("%q: exit %d: %s", line, code, errOut.String())
			continue
		}
		var got []string
		for l := range strings.Lines(out.String()) {
			if word, _, _ := strings.Cut(strings.TrimSpace(l), "\t"); !strings.HasPrefix(word, ":") {
				got = append(got, word)
			}
		}
		if g := strings.Join(got, " "); g != want {
			t.Errorf("%q: got %q, want %q", line, g, want)
		}
	}
}

func TestPlainly(t *testing.T) {
	for msg, want := range map[string]string{
		`The request is invalid: patch: Invalid value: "{\"spec\":{\"peer\":[]}}": strict decoding error: unknown field "spec.peer"`: `The request is invalid: patch: strict decoding error: unknown field "spec.peer"`,
		`The request is invalid: patch: Invalid value: "x"`:                                                                          `The request is invalid: patch: Invalid value: "x"`,
		`error: no objects passed to apply`:                                                                                          `error: no objects passed to apply`,
	} {
		if got := plainly(msg); got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
}
