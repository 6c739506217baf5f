package kube_test

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hasp/test/document"
	"hasp/test/kube/node"
	"hasp/test/meshtest"
	"hasp/test/wire"
)

// elsewhere are commands of docs/lab.md that are about the mesh of one machine,
// and what stands for them on a cluster. Everything else is typed as it is.
var elsewhere = []struct{ command, here string }{
	{"hasp up", ""},   // Helm did
	{"hasp down", ""}, // the other tests go on
	{"export PAGE=", "export PAGE=http://$(oc -n istio-system get service istio-ingressgateway -o jsonpath={.spec.clusterIP})"},
}

// changes are commands after which a person looks up before the next.
var changes = regexp.MustCompile(`\boc (apply|delete (policy|dr))\b`)

// TestLab types docs/lab.md on the cluster, oc being the cluster's own kubectl,
// and compares what comes with what the document shows. A witness on the bridge
// sees what could be read meanwhile.
func TestLab(t *testing.T) {
	n := mesh(t)
	text, err := os.ReadFile(filepath.Join(meshtest.Root(), "docs", "lab.md"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := document.Commands(string(text))
	if err != nil {
		t.Fatalf("docs/lab.md: %v", err)
	}
	witness := meshtest.Listen(t, n.Command(context.Background(), meshtest.Build(t, "sniff"), node.Bridge))
	sh := session(t, n)

	var strict span
	for _, c := range list {
		if strings.HasPrefix(c.Text, "oc delete policy/default") {
			strict.end = time.Now()
		}
		typed(t, n, sh, c)
		if strings.HasPrefix(c.Text, "oc wait ") {
			strict.begin = time.Now()
			typed(t, n, sh, document.Command{Text: "curl -sS -o /dev/null $PAGE/shared"})
		}
		// What the witness looks for, beside the lab's own items.
		if strings.Contains(c.Text, "pastedata=another item") {
			typed(t, n, sh, document.Command{Text: "curl -sS --data-urlencode pastedata=" + marker + " $PAGE/shared/paste"})
		}
	}
	if strict.begin.IsZero() || strict.end.IsZero() {
		t.Fatal("docs/lab.md is no longer the lab: it waits for no DestinationRule, or deletes no policy")
	}
	rogue, err := netip.ParseAddr(must(t, n, "kubectl", "-n", project, "get", "pod", "curl-boards-2", "-o", "jsonpath={.status.podIP}"))
	if err != nil {
		t.Fatal(err)
	}
	checkWire(t, witness.Report(t), strict, rogue)

	// As it was, for the next test.
	must(t, n, "kubectl", "-n", project, "apply", "-f", demo("istio-configuration/destinationrules-all.yaml"))
	must(t, n, "kubectl", "-n", project, "delete", "pod", "curl-boards-1", "curl-boards-2", "curl-boards-3", "--wait=false")
}

// session of a person in the demo's directory, whose oc is in the lab's project,
// and who has hasp at hand.
func session(t *testing.T, n *node.Node) *document.Shell {
	t.Helper()
	config, err := os.ReadFile(n.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(own, config, 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, n, "kubectl", "--kubeconfig", own, "config", "set-context", "--current", "--namespace", project)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	cmd := n.Command(ctx, "sh")
	cmd.Dir = demo("")
	bin, err := filepath.Abs(filepath.Join(meshtest.Root(), "bin", "hasp"))
	if err != nil {
		t.Fatal(err)
	}
	// bin itself has another oc.
	tools := t.TempDir()
	if err := os.Symlink(bin, filepath.Join(tools, "hasp")); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, "KUBECONFIG="+own, "PATH="+tools+":"+n.Path())
	sh, err := document.Open(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sh.Close() })
	return sh
}

// typed is a command of the document, or what stands for it here, whose output
// has to be what the document shows.
func typed(t *testing.T, n *node.Node, sh *document.Shell, c document.Command) {
	t.Helper()
	for _, e := range elsewhere {
		if strings.HasPrefix(c.Text, e.command) {
			if e.here == "" {
				return
			}
			c.Text = e.here
		}
	}
	var got string
	var err error
	run := func() { got, _, err = sh.Run(c.Text) }
	if changes.MatchString(c.Text) {
		change(t, n, run) // a person is slower than the mesh
	} else {
		run()
	}
	if err != nil {
		t.Fatalf("docs/lab.md:%d: %s: %v\n%s", c.Line, c.Text, err, got)
	}
	if c.Line > 0 && !c.Shows(got) {
		t.Fatalf("docs/lab.md:%d: $ %s\nprinted\n%s\nand not\n%s", c.Line, c.Text, got, strings.Join(c.Want, "\n"))
	}
}

// marker is an item on the board, and what the witness looks for.
const marker = wire.MarkerPrefix + "kube-lab"

// span of time.
type span struct{ begin, end time.Time }

func (s span) has(at time.Time) bool { return at.After(s.begin) && at.Before(s.end) }

// checkWire compares what the witness saw between pods with the lab's claims:
// before and after, what the board says can be read; between policy and its end
// it cannot, all of it is TLS 1.3, and the rogue gets no byte.
func checkWire(t *testing.T, r wire.Report, strict span, rogue netip.Addr) {
	t.Helper()
	if r.Dropped > 0 {
		t.Errorf("the witness lost %d packets", r.Dropped)
	}
	var readable, encrypted, refused int
	for _, c := range r.Connections {
		// The node's own are probes and the lab's user at the gateway.
		if !pods.Contains(c.Client.Addr()) || c.Client.Addr() == pods.Addr().Next() || !slices.Contains(appPorts, c.Server.Port()) {
			continue
		}
		seen := slices.Contains(c.FromClient.Markers, marker) || slices.Contains(c.FromServer.Markers, marker)
		switch {
		case !strict.has(c.Start):
			if seen {
				readable++
			}
		case c.Client.Addr() == rogue:
			refused++
			if c.FromServer.Bytes > 0 {
				t.Errorf("the rogue %s got %d bytes from %s", rogue, c.FromServer.Bytes, c.Server)
			}
		case c.FromClient.Bytes == 0:
			// Begun, and not needed.
		default:
			encrypted++
			if seen || c.TLS != "1.3" {
				t.Errorf("under STRICT, %s to %s: TLS %q, markers %q and %q", c.Client, c.Server, c.TLS, c.FromClient.Markers, c.FromServer.Markers)
			}
		}
	}
	if readable == 0 || encrypted == 0 || refused == 0 {
		t.Errorf("of %d connections %d were readable, %d encrypted under STRICT, %d of the rogue: want some of each",
			len(r.Connections), readable, encrypted, refused)
	}
}

var (
	pods     = netip.MustParsePrefix("10.244.0.0/24")
	appPorts = []uint16{8080, 27017}
)
