package kube_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hasp/test/kube/node"
	"hasp/test/meshtest"
	"hasp/truth"
)

// strict is for a namespace.
const strict = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
`

// TestFacts: what is told of the mesh is what happened, whichever replica of the
// control plane is asked. A client without a sidecar stands in the way of
// STRICT, is named by all that are asked what STRICT would do, and is refused
// when it comes, which can be explained. The kubelet is nobody's client.
func TestFacts(t *testing.T) {
	n := mesh(t)
	ns := namespace(t, n)
	must(t, n, "kubectl", "label", "namespace", ns, "istio-injection=enabled")
	apply(t, n, ns, `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: all}
spec: {host: "*.`+ns+`.svc.cluster.local", trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
`+"---"+server)
	must(t, n, "kubectl", "-n", ns, "rollout", "status", "deployment/server", "--timeout=180s")
	apply(t, n, ns, caller("inside", "http://server/inside"))
	must(t, n, "kubectl", "-n", ns, "run", "friend", "--image=test/pod", "--", "serve", ":8080")
	must(t, n, "kubectl", "-n", ns, "wait", "pod/friend", "--for=condition=Ready", "--timeout=180s")
	must(t, n, "kubectl", "-n", ns, "exec", "friend", "-c", "friend", "--", "/pod", "ask", "http://server/friend")
	if out, err := legacy(t, n, ns, "legacy"); out != "server at /legacy\n" {
		t.Fatalf("without a sidecar it was answered %q, %v", out, err)
	}
	must(t, n, "kubectl", "-n", ns, "wait", "job/inside", "--for=condition=Complete", "--timeout=180s")
	policy := filepath.Join(t.TempDir(), "strict.yaml")
	if err := os.WriteFile(policy, []byte(strict), 0o644); err != nil {
		t.Fatal(err)
	}

	t.Run("before", func(t *testing.T) {
		link := linkFrom(t, n, ns, "inside-")
		if link.Seen != "both" || link.Security != "mutual_tls" || link.Disagreement != "" ||
			link.AtSource == nil || link.AtDestination == nil || link.AtSource.Trace != link.AtDestination.Trace {
			t.Errorf("the call inside of the mesh is told as %+v", link)
		}
		for _, pod := range controlPlanes(t, n) {
			eventually(t, "plaintext, as "+pod+" knows it", func() error {
				var l truth.PlainLedger
				view(t, n, pod, "/plaintext", &l)
				var clients []string
				for _, p := range l.Lines {
					if p.Destination.Namespace == ns {
						clients = append(clients, p.Source.Workload)
					}
				}
				if diff := cmp.Diff([]string{ns + "/legacy"}, clients); diff != "" {
					return fmt.Errorf("-want +got\n%s", diff)
				}
				return nil
			})
		}
		says(t, n, true, []string{"plaintext", "-n", ns}, "from legacy."+ns+": once", "STRICT is not safe for", "server."+ns)
		refuses(t, n, []string{"what-if", "-n", ns, "-f", policy}, "CUT", "legacy."+ns, "1 cut;")
		refuses(t, n, []string{"apply", "--safe", "-n", ns, "-f", policy}, "CUT", "legacy."+ns, "Nothing was applied.")
		refuses(t, n, []string{"plaintext", "-n", ns, "--check"}, "legacy."+ns)
		out := must(t, n, "sh", "-c", `kubectl -n "$0" apply --dry-run=server -f "$1" 2>&1`, ns, policy)
		if want := "Warning: what-if: client " + ns + "/legacy would be cut from server." + ns + ":8080"; !strings.Contains(out, want) {
			t.Errorf("a dry run does not say %q:\n%s", want, out)
		}
		dashboard(t, n, func(get func(path string) string) {
			for path, want := range map[string]string{"/": ns + "/server", "/plaintext": "legacy." + ns, "/status": controlPlanes(t, n)[1]} {
				if body := get(path); !strings.Contains(body, want) {
					t.Errorf("the dashboard's %s has no %q:\n%s", path, want, body)
				}
			}
		})
	})

	change(t, n, func() { apply(t, n, ns, strict) })
	t.Run("under STRICT", func(t *testing.T) {
		if out, err := legacy(t, n, ns, "late"); err == nil || !strings.Contains(err.Error(), "Connection reset by peer") {
			t.Fatalf("it was answered %q, %v; want a reset", out, err)
		}
		link := linkFrom(t, n, ns, "late")
		if link.Allowed || link.Seen != "destination" {
			t.Errorf("the call that was refused is told as %+v", link)
		}
		says(t, n, true, []string{"why", link.Trace}, "late."+ns+" to server."+ns+":8080", "refused",
			"STRICT of PeerAuthentication "+ns+"/default (namespace) requires mutual TLS", `sidecar.istio.io/inject: "true"`)
		says(t, n, true, []string{"authn", "tls-check", "friend." + ns, "server." + ns, "-o", "wide"}, "STRICT", ns+"/default", " yes ", "X25519MLKEM768")
		says(t, n, true, []string{"verify", "server." + ns}, "√ 8080: plaintext is refused (STRICT by PeerAuthentication "+ns+"/default (namespace))", " 0 failed", "the signature is good")
	})

	t.Run("all replicas", func(t *testing.T) {
		pods := controlPlanes(t, n)
		if len(pods) != 2 {
			t.Fatalf("the control planes are %q", pods)
		}
		var before *truth.Facts
		eventually(t, "they know the same", func() error {
			a, b := factsOf(t, n, pods[0]), factsOf(t, n, pods[1])
			if diff := cmp.Diff(known(a, ns), known(b, ns)); diff != "" {
				return fmt.Errorf("-%s +%s\n%s", pods[0], pods[1], diff)
			}
			before = a
			return errors.Join(uptodate(pods[0], a), uptodate(pods[1], b))
		})
		restart(t, n, pods[0])
		eventually(t, "one that was restarted knows it again", func() error {
			var f truth.Facts
			if err := tryView(t, n, pods[0], "/facts", &f); err != nil {
				return err
			}
			if !f.Since.Equal(before.Since) {
				t.Fatalf("it remembers what happened since %s, and before %s", f.Since, before.Since)
			}
			if diff := cmp.Diff(known(before, ns), known(&f, ns)); diff != "" {
				return fmt.Errorf("-before +after\n%s", diff)
			}
			return uptodate(pods[0], &f)
		})
	})
}

// legacy is one call of the server by a pod that refused a sidecar.
func legacy(t *testing.T, n *node.Node, ns, name string) (string, error) {
	t.Helper()
	return try(t, n, "kubectl", "-n", ns, "run", name, "-i", "-q", "--restart=Never", "--image=appropriate/curl",
		"--labels=sidecar.istio.io/inject=false", "--", "-sSf", "--max-time", "10", "http://server/"+name)
}

// refuses is hasp that must end with the status that says that somebody would be
// hurt, and print what is wanted.
func refuses(t *testing.T, n *node.Node, args []string, want ...string) {
	t.Helper()
	out, err := hasp(t, n, args...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("hasp %s ends with %v, want status 3\n%s", strings.Join(args, " "), err, out)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("hasp %s: no %q in\n%s", strings.Join(args, " "), w, out)
		}
	}
}

// linkFrom a pod of the namespace to its server, once it is told of.
func linkFrom(t *testing.T, n *node.Node, ns, pod string) (link truth.Link) {
	t.Helper()
	eventually(t, "the connection of "+pod, func() error {
		out, err := hasp(t, n, "connections", "-n", ns, "-o", "json")
		if err != nil {
			return err
		}
		var links []truth.Link
		if err := json.Unmarshal([]byte(out), &links); err != nil {
			return err
		}
		i := slices.IndexFunc(links, func(l truth.Link) bool {
			return strings.HasPrefix(l.Source.Workload, ns+"/"+pod) && l.Destination.Owner == "server" && !l.End.IsZero()
		})
		if i < 0 {
			return fmt.Errorf("it is not among\n%s", out)
		}
		link = links[i]
		return nil
	})
	return link
}

// controlPlanes are the pods of its replicas.
func controlPlanes(t *testing.T, n *node.Node) []string {
	t.Helper()
	return strings.Fields(must(t, n, "kubectl", "-n", "istio-system", "get", "pods", "-l", "app=istiod", "-o", "jsonpath={.items[*].metadata.name}"))
}

func factsOf(t *testing.T, n *node.Node, pod string) *truth.Facts {
	t.Helper()
	f := &truth.Facts{}
	view(t, n, pod, "/facts", f)
	return f
}

// view of one replica of the control plane.
func view(t *testing.T, n *node.Node, pod, path string, v any) {
	t.Helper()
	if err := tryView(t, n, pod, path, v); err != nil {
		t.Fatal(err)
	}
}

func tryView(t *testing.T, n *node.Node, pod, path string, v any) (err error) {
	t.Helper()
	address, stop, err := serve(t, n, regexp.MustCompile(`Forwarding from (127\S+) `), "kubectl", "-n", "istio-system", "port-forward", "--address=127.0.0.1", "pod/"+pod, "0:15000")
	if err != nil {
		return err
	}
	defer stop()
	out, err := try(t, n, "curl", "-sSf", "--max-time", "10", "http://"+address+path)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), v)
}

// serve runs a program until it is stopped. It serves at the address that it
// says, which the expression finds.
func serve(t *testing.T, n *node.Node, says *regexp.Regexp, name string, args ...string) (address string, stop func(), err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	cmd := n.Command(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return "", nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := says.FindStringSubmatch(lines.Text()); m != nil {
			return m[1], func() { cancel(); _ = cmd.Wait() }, nil
		}
	}
	cancel()
	err = cmd.Wait()
	return "", nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), errors.Join(err, lines.Err()), errs.String())
}

// dashboard of the cluster, while look looks.
func dashboard(t *testing.T, n *node.Node, look func(get func(path string) string)) {
	t.Helper()
	page, stop, err := serve(t, n, regexp.MustCompile(`^(http://\S+)$`), filepath.Join(meshtest.Root(), "bin", "hasp"), "dashboard", "--no-browser")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	look(func(path string) string { return must(t, n, "curl", "-sSf", "--max-time", "10", page+path) })
}

// known is what of a namespace's edges two replicas must agree about. A proxy
// that lives may be told of later to one than to the other.
func known(f *truth.Facts, ns string) map[string]uint64 {
	out := map[string]uint64{}
	for _, e := range f.Edges {
		if strings.HasPrefix(e.Node, ns+"/") {
			out[fmt.Sprintf("%s %s %s:%d %s %t", e.Node, e.Direction, e.Peer, e.Port, e.Security, e.Allowed)] += e.Connections
		}
	}
	return out
}

// uptodate is an error when a replica takes a connected proxy for behind.
func uptodate(pod string, f *truth.Facts) error {
	for _, p := range f.Proxies {
		if p.Connected && p.Generation != f.Generation {
			return fmt.Errorf("%s says that %s has generation %d of %d", pod, p.Node, p.Generation, f.Generation)
		}
	}
	return nil
}

// restart the control plane's container in a pod: who is told to stop is started
// again.
func restart(t *testing.T, n *node.Node, pod string) {
	t.Helper()
	id := must(t, n, "kubectl", "-n", "istio-system", "get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].containerID}")
	id = strings.TrimPrefix(id, "containerd://")
	isIts := func(cgroup string) bool {
		b, err := os.ReadFile(cgroup)
		return err == nil && strings.Contains(string(b), id)
	}
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(groups, isIts)
	if i < 0 {
		t.Fatalf("there is no process of container %s", id)
	}
	pid, err := strconv.Atoi(filepath.Base(filepath.Dir(groups[i])))
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGTERM)
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the container of "+pod+" ends", func() error {
		if isIts(groups[i]) {
			return fmt.Errorf("process %d still runs", pid)
		}
		return nil
	})
}
