package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInject runs hasp inject on a file and on standard input.
func TestInject(t *testing.T) {
	dir := t.TempDir()
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: boards}\nspec: {containers: [{name: boards, image: boards}]}\n"
	for name, text := range map[string]string{
		"pod.yaml":  pod,
		"two.yaml":  pod + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n",
		"bad.yaml":  strings.Replace(pod, "metadata: {name: boards}", "metadata:\n  annotations:\n    sidecar.istio.io/logLevel: loud", 1),
		"image":     "image: example.com/proxy:1\ncni: true\n",
		"bad-image": "imag: example.com/proxy:1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		args     string
		code     int
		out, err string // a part of
	}{
		{"-f pod.yaml", 0, "image: localhost:5000/hasp/hasp-proxy:", ""},
		{"-f -", 0, "name: istio-init", ""},
		{"-f pod.yaml --config image", 0, "image: example.com/proxy:1\n", ""},
		{"-f pod.yaml -o json", 0, "{\n    \"apiVersion\": \"v1\",\n    \"kind\": \"Pod\",", ""},
		{"-f two.yaml -o json", 0, "\"kind\": \"List\"", ""},
		{"-f two.yaml", 0, "---\napiVersion: v1\nkind: ConfigMap\n", ""},
		{"-f pod.yaml -n kube-system", 0, "name: boards", "pod.yaml:1: Pod boards: not injected: namespace kube-system is never injected"},
		{"-f bad.yaml", 1, "", `bad.yaml:5: Pod: annotation sidecar.istio.io/logLevel: "loud": write debug, info, warning or error`},
		{"-f pod.yaml --config bad-image", 1, "", `hasp: bad-image:1: imag: unknown field "imag"; did you mean "image"?`},
		{"-f nowhere.yaml", 1, "", "no such file or directory"},
		{"", 2, "", "hasp: hasp inject needs -f FILE, or -f - for standard input"},
		{"-f - -o table", 2, "", `hasp: -o "table": it is yaml or json`},
	} {
		var out, errs strings.Builder
		code := Run(context.Background(), Config{
			Args: append([]string{"inject"}, strings.Fields(tc.args)...), Name: "hasp", Executable: "/nowhere/hasp",
			In: strings.NewReader(pod), Out: &out, Err: &errs, Dir: dir, StateDir: filepath.Join(dir, "state"),
		})
		if code != tc.code || !strings.Contains(out.String(), tc.out) || !strings.Contains(errs.String(), tc.err) || code != 0 && out.Len() > 0 {
			t.Errorf("%s: status %d\n%s%s", tc.args, code, out.String(), errs.String())
		}
	}
}
