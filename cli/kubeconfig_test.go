package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// nobodyThere is a kubeconfig whose cluster refuses connections: 127.0.0.1:1.
const nobodyThere = `
apiVersion: v1
kind: Config
current-context: away
clusters: [{name: away, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: away, context: {cluster: away, user: me, namespace: shop}}]
users: [{name: me, user: {token: x}}]
`

// TestKubectlsOwnCluster: every command that asks a cluster finds it as kubectl does,
// and says so when it does not answer.
func TestKubectlsOwnCluster(t *testing.T) {
	home := t.TempDir()
	own := filepath.Join(home, ".kube", "config")
	if err := os.Mkdir(filepath.Dir(own), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, []byte(nobodyThere), 0o600); err != nil {
		t.Fatal(err)
	}
	const refused = "dial tcp 127.0.0.1:1: connect: connection refused"
	const nobody = "hasp: nobody answers at https://127.0.0.1:1; is the cluster of the kubeconfig up? Or give manifests with -f\n"
	for _, c := range []struct {
		args     string
		home     string
		code     int
		out, err string
	}{
		{"authn tls-check", home, 1, "", nobody},
		{"explain --from a --to b", home, 1, "", nobody},
		{"status", home, 1, "", refused},
		{"check", home, 1, "× the API server answers\n", ""},
		{"check -o json", home, 1, `"ok": false`, ""},
		{"uninstall", home, 1, "", refused},
		{"authn tls-check --kubeconfig " + own, "", 1, "", nobody},
		{"authn tls-check --context nope", home, 1, "", `hasp: read the kubeconfig: context "nope" does not exist`},
		{"authn tls-check -f x --context away", home, 2, "", "hasp: -f answers from files alone: leave out --kubeconfig and --context\n"},
		{"authn tls-check", "", 1, "", "hasp: no mesh is running; start one with hasp up; for a cluster set KUBECONFIG or give --kubeconfig, for files -f\n"},
		{"status", "", 3, "No mesh is running; start one with hasp up.\n", ""},
		{"check", "", 1, "", "hasp: no cluster is named: "},
	} {
		var out, errOut strings.Builder
		code := Run(t.Context(), Config{
			Args: strings.Fields(c.args), Name: "hasp", Out: &out, Err: &errOut,
			Dir: "/", StateDir: t.TempDir(), Environ: []string{"HOME=" + c.home},
		})
		if code != c.code || !strings.Contains(out.String(), c.out) || !strings.Contains(errOut.String(), c.err) || (c.err == "") != (errOut.Len() == 0) {
			t.Errorf("hasp %s, HOME=%s: status %d\n%s%s", c.args, c.home, code, out.String(), errOut.String())
		}
	}
}
