// Package meshtest starts real meshes for the ladder's upper rungs: the built
// programs, as root and as an ordinary user, with nothing of the mesh's code in
// the test. [Start] starts one, [Mesh.Kubectl] and [Mesh.Hasp] speak to it,
// [Mesh.Client] runs a short program in a pod of its own, [Mesh.Sniff] listens
// on the wire. Everything ends with the test.
package meshtest

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Project is the namespace that tests use.
const Project = "shop"

// Options of a mesh under test.
type Options struct {
	// User runs it; see Users.
	User User
	// Args follow "hasp up" in place of those that start an empty mesh.
	Args []string
}

// Mesh is a mesh that runs for a test.
type Mesh struct {
	User  User
	State string // state directory
	Bin   string // directory with hasp and the others
	home  string
}

// New prepares a mesh without starting it.
func New(t testing.TB, user User) *Mesh {
	t.Helper()
	home := user.dir(t)
	m := &Mesh{User: user, Bin: user.programs(t, home), home: home, State: filepath.Join(home, "state")}
	t.Cleanup(func() { m.stop(t) })
	return m
}

// Start a mesh and wait until it serves.
func Start(t testing.TB, o Options) *Mesh {
	t.Helper()
	m := New(t, o.User)
	m.Up(t, o.Args...)
	return m
}

// Up starts the mesh again, or for the first time.
func (m *Mesh) Up(t testing.TB, args ...string) {
	t.Helper()
	if args == nil {
		args = []string{"--app", "none", "--project", Project}
	}
	start := time.Now()
	m.Hasp(t, append([]string{"up"}, args...)...).Must(t)
	t.Logf("hasp up as %s: %.1f s", m.User, time.Since(start).Seconds())
}

// stop ends the mesh; when the test failed it shows what the mesh said.
func (m *Mesh) stop(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if t.Failed() {
		said := m.Log(t, "") // a panic has no level
		said = slices.DeleteFunc(said, func(s string) bool { return strings.Contains(s, "level=INFO") && strings.Contains(s, " from=") })
		t.Logf("the end of the daemon's log:\n%s", strings.Join(said[max(0, len(said)-40):], "\n"))
	}
	if r := m.command(ctx, "", "hasp", "down"); r.Err != nil {
		t.Errorf("hasp down: %v\n%s", r.Err, r.Output())
	}
}

// Log is the lines of the daemon's log that contain a text.
func (m *Mesh) Log(t testing.TB, text string) []string {
	b, err := os.ReadFile(filepath.Join(m.State, "daemon.log"))
	if err != nil {
		t.Logf("no log of the daemon: %v", err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, text) {
			out = append(out, strings.TrimRight(line, "\n"))
		}
	}
	return out
}

// Daemon is the mesh's background process and everything below it.
func (m *Mesh) Daemon(t testing.TB) []Process {
	t.Helper()
	return Family(t, m.Status(t).PID)
}

// Status is "hasp status -o json", as far as tests look at it.
type Status struct {
	Running    bool   `json:"running"`
	PID        int    `json:"pid"` // on the host
	Kubeconfig string `json:"kubeconfig"`
	Page       string `json:"page"`
	Control    struct {
		Generation uint64 `json:"generation"`
		Proxies    []struct {
			Node            string `json:"node"`
			Connected       bool   `json:"connected"`
			AckedGeneration uint64 `json:"ackedGeneration"`
		} `json:"proxies"`
		Problems []string `json:"problems"`
	} `json:"control"`
}

// Status of the mesh, which may be one that does not run.
func (m *Mesh) Status(t testing.TB) Status {
	t.Helper()
	r := m.Hasp(t, "status", "-o", "json")
	var s Status
	if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
		t.Fatalf("hasp status -o json: %v\n%s", err, r.Output())
	}
	return s
}

// enforcedWithin is far more than a change takes, on a loaded machine too.
const enforcedWithin = time.Minute

// Change runs a command that changes the mesh's configuration and waits until
// every proxy has acknowledged it.
func (m *Mesh) Change(t testing.TB, change func()) {
	t.Helper()
	before := m.Status(t).Control.Generation
	change()
	Eventually(t, enforcedWithin, "every proxy has the change", func() bool {
		s := m.Status(t).Control
		if s.Generation <= before {
			return false
		}
		for _, p := range s.Proxies {
			if p.Connected && p.AckedGeneration < s.Generation {
				return false
			}
		}
		return true
	})
}

// Apply manifests, as a person would.
func (m *Mesh) Apply(t testing.TB, manifests string) {
	t.Helper()
	m.KubectlInput(t, manifests, "apply", "-f", "-").Must(t)
}

// Available waits until every Deployment of the project is.
func (m *Mesh) Available(t testing.TB) {
	t.Helper()
	r := m.Kubectl(t, "wait", "--for=condition=Available", "deployment", "--all", "--timeout=180s")
	if r.Err != nil {
		t.Fatalf("deployments not available: %s\n%s", r.Output(), m.Kubectl(t, "get", "pods", "-o", "wide").Stdout)
	}
}

// Eventually asks until the answer is yes, and fails the test after a time.
func Eventually(t testing.TB, within time.Duration, what string, yes func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		<-tick.C
	}
}
