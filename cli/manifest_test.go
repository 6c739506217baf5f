package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestValuesThatCannotBe: what the control plane would only log is refused
// before an installation, by the file and the value.
func TestValuesThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.yaml")
	if err := os.WriteFile(broken, []byte("gateway: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-f", broken}, "hasp: " + broken + ": deploy: values: error converting YAML to JSON"},
		{[]string{"--set", "gatway.enabled=false"}, "hasp manifest --values-file prints the values there are"},
		{[]string{"--set", "meshConfig.trustDomain=a/b"}, `hasp: values: meshConfig.trustDomain: `},
		{[]string{"--set", "meshConfig.outboundTrafficPolicy.mode=SOME"}, `hasp: values: meshConfig.outboundTrafficPolicy.mode: `},
		{[]string{"--set", "meshConfig.accessLogFormat=x,meshConfig.tcpKeepalive.probes=3"}, "values: meshConfig.tcpKeepalive: hasp does not support"},
		{[]string{"--set", "injection.excludeOutboundIPRanges={10.0.0.0/33}"}, `hasp: injection`},
	} {
		var out, errOut strings.Builder
		code := Run(t.Context(), Config{Args: append([]string{"manifest"}, c.args...), Name: "hasp", Out: &out, Err: &errOut, Dir: dir, StateDir: t.TempDir()})
		if code != 1 || out.Len() > 0 || !strings.Contains(errOut.String(), c.want) {
			t.Errorf("hasp manifest %q: status %d, %q; want %q", c.args, code, errOut.String(), c.want)
		}
	}
	var out, errOut strings.Builder
	args := []string{"manifest", "--set", "meshConfig.trustDomain=example.org,injection.excludeOutboundIPRanges={10.0.0.0/8}"}
	if code := Run(t.Context(), Config{Args: args, Name: "hasp", Out: &out, Err: &errOut, Dir: dir, StateDir: t.TempDir()}); code != 0 || !strings.Contains(out.String(), "trustDomain: example.org") {
		t.Errorf("status %d, %q", code, errOut.String())
	}
}
