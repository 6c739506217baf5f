package kube_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hasp/test/kube/node"
	"hasp/test/meshtest"
)

// Images of the tests' own programs: test/kube/cmd/pod and test/load.
const (
	podImage  = "test/pod:latest"
	loadImage = "test/load:latest"
)

// patience with everything that a cluster is to do by itself.
const patience = time.Minute

// shared is the node of all tests that do not need one of their own. A start is
// seconds, but they add up.
var shared struct {
	once sync.Once
	node *node.Node
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.node != nil {
		if err := refusals(shared.node.AuditLog); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		if code != 0 {
			shared.node.Diagnose(context.Background(), os.Stderr)
		}
		if err := shared.node.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if shared.dir != "" {
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// refusals by the API server of what a part of hasp asked for: its roles would
// not be enough. (That they are not more than enough is envtest's to say.)
func refusals(auditLog string) error {
	b, err := os.ReadFile(auditLog)
	if err != nil {
		return fmt.Errorf("read the audit log: %w", err)
	}
	var errs []error
	for line := range bytes.Lines(b) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		var r struct {
			User           struct{ Username string }
			Verb           string
			RequestURI     string
			ResponseStatus struct{ Code int }
		}
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("read the audit log: %w", err)
		}
		if r.ResponseStatus.Code == http.StatusForbidden {
			errs = append(errs, fmt.Errorf("%s was refused %s %s", r.User.Username, r.Verb, r.RequestURI))
		}
	}
	return errors.Join(errs...)
}

// cluster for a test, started by the first that asks.
func cluster(t *testing.T) *node.Node {
	t.Helper()
	need(t)
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "hasp-kube-test-"); shared.err != nil {
			return
		}
		shared.node, shared.err = node.Start(t.Context(), config(t, shared.dir))
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.node
}

// config of a node whose files are in dir.
func config(t *testing.T, dir string) node.Config {
	t.Helper()
	bin := filepath.Join(meshtest.Root(), "bin")
	return node.Config{
		Dir: filepath.Join(dir, "node"), Bin: filepath.Join(bin, "kube"), Images: filepath.Join(bin, "images"),
		Programs: map[string]string{podImage: meshtest.Build(t, "kube/cmd/pod"), loadImage: meshtest.Build(t, "load")},
		Log:      slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
}

// need what a node needs. Without it the test is skipped, but in CI it fails.
func need(t *testing.T) {
	t.Helper()
	meshtest.Need(t, "containerd", "runc", "nsenter")
	missing := ""
	if os.Geteuid() != 0 {
		missing = "a node needs root"
	} else if _, err := os.Stat(filepath.Join(meshtest.Root(), "bin", "kube", "sources")); err != nil {
		missing = "bin/kube is not there: make test-kube"
	}
	if missing == "" {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// try a command in the node's network. The error has what it printed.
func try(t *testing.T, n *node.Node, name string, args ...string) (stdout string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := n.Command(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}

// must is try that has to work.
func must(t *testing.T, n *node.Node, name string, args ...string) (stdout string) {
	t.Helper()
	out, err := try(t, n, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// apply a manifest in a namespace.
func apply(t *testing.T, n *node.Node, namespace, manifest string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, n, "kubectl", "-n", namespace, "apply", "-f", file)
}

// namespace of a test's own, which goes with it.
func namespace(t *testing.T, n *node.Node) string {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	createNamespace(t, n, name)
	return name
}

func createNamespace(t *testing.T, n *node.Node, name string) {
	t.Helper()
	must(t, n, "kubectl", "create", "namespace", name)
	t.Cleanup(func() {
		cmd := n.Command(context.Background(), "kubectl", "delete", "namespace", name, "--wait=false", "--ignore-not-found")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("delete namespace %s: %v\n%s", name, err, out)
		}
	})
	// What pods start with.
	eventually(t, "the default ServiceAccount of "+name, func() error {
		_, err := try(t, n, "kubectl", "-n", name, "get", "serviceaccount", "default")
		return err
	})
}

// eventually asks until there is no error.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%s: %v", what, errors.Join(t.Context().Err(), err))
		case <-time.After(200 * time.Millisecond):
		}
	}
}
