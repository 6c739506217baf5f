// Package crash is the rung that takes things away: the daemon, a proxy, the
// program in the foreground are killed with no chance to clean up, and
// certificates end while connections live.
package crash

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hasp/test/meshtest"
)

// aLot is how long anything here may take on a busy machine.
const aLot = time.Minute

// killed waits until processes are gone, all of them.
func killed(t *testing.T, family []meshtest.Process) {
	t.Helper()
	meshtest.Eventually(t, aLot, fmt.Sprintf("the %d processes of the mesh are gone", len(family)), func() bool {
		return !slices.ContainsFunc(family, meshtest.Process.Alive)
	})
}

// unchanged compares the machine with what it was.
func unchanged(t *testing.T, m *meshtest.Mesh, before meshtest.Host) {
	t.Helper()
	if left := m.Host(t).New(before); len(left) > 0 {
		t.Errorf("the mesh left behind:\n%s", strings.Join(left, "\n"))
	}
}

// The daemon is killed: nothing of it is left, the next start needs no help, and
// has every object that was acknowledged and the application.
func TestKillDaemon(t *testing.T) {
	meshtest.Need(t, "curl", "python3")
	meshtest.EachUser(t, func(t *testing.T, u meshtest.User) {
		m := meshtest.New(t, u)
		before := m.Host(t)
		m.Up(t)
		m.Apply(t, shop)
		m.Available(t)
		// The last thing before the crash is an acknowledged write.
		for i := range 20 {
			m.Apply(t, fmt.Sprintf(`{apiVersion: v1, kind: ConfigMap, metadata: {name: written-%d}}`, i))
		}
		m.Apply(t, strict)
		family := m.Daemon(t)
		if len(family) < 3 {
			t.Fatalf("the mesh has the processes %v, want a daemon, a proxy and a program", family)
		}
		top(t, m, family).Kill(t)
		killed(t, family)
		unchanged(t, m, before)
		if s := m.Status(t); s.Running {
			t.Errorf("status says that it runs: %+v", s)
		}

		m.Up(t)
		names := m.Kubectl(t, "get", "configmaps", "-o", "name").Must(t).Stdout
		for i := range 20 {
			if want := fmt.Sprintf("configmap/written-%d\n", i); !strings.Contains(names, want) {
				t.Errorf("%s was acknowledged and is gone", strings.TrimSpace(want))
			}
		}
		m.Available(t)
		served(t, m, "again")
		refused(t, m, "rogue")
	})
}

// A server's proxy is killed: it is started again, the application runs on, and
// at no time does an outsider get past it.
func TestKillProxy(t *testing.T) {
	meshtest.Need(t, "curl", "python3")
	m := meshtest.Start(t, meshtest.Options{User: meshtest.Ordinary()})
	m.Apply(t, shop)
	m.Available(t)
	m.Change(t, func() { m.Apply(t, strict) })
	served(t, m, "before")

	family := m.Daemon(t)
	proxy := find(t, family, "hasp-proxy")
	app := find(t, family, "python3")
	proxy.Kill(t)
	refused(t, m, "rogue")
	meshtest.Eventually(t, aLot, "a new proxy has its configuration", func() bool {
		s := m.Status(t).Control
		return len(s.Proxies) > 0 && s.Proxies[0].Connected && s.Proxies[0].AckedGeneration == s.Generation &&
			slices.ContainsFunc(m.Daemon(t), func(p meshtest.Process) bool { return p.Program == "hasp-proxy" && p.PID != proxy.PID })
	})
	m.Available(t)
	served(t, m, "after")
	refused(t, m, "rogue-after")
	if !app.Alive() {
		t.Errorf("the application did not outlive its proxy")
	}
}

// What was started in the foreground is killed: the mesh goes with it.
func TestKillForeground(t *testing.T) {
	meshtest.EachUser(t, func(t *testing.T, u meshtest.User) {
		m := meshtest.New(t, u)
		before := m.Host(t)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		cmd := m.Cmd(ctx, "hasp", "up", "--foreground", "--app", "none", "--project", meshtest.Project)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		defer func() {
			if t.Failed() {
				cancel()
				cmd.Wait()
				t.Logf("it said:\n%s", &said)
			}
		}()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		meshtest.Eventually(t, aLot, "the mesh runs", func() bool {
			r := m.Hasp(t, "status", "-o", "json")
			var s meshtest.Status
			return r.Err == nil && json.Unmarshal([]byte(r.Stdout), &s) == nil && s.Running && s.Control.Generation > 0
		})
		family := meshtest.Family(t, cmd.Process.Pid)
		top := slices.IndexFunc(family, func(p meshtest.Process) bool { return p.PID == cmd.Process.Pid })
		family[top].Kill(t)
		if err := cmd.Wait(); err == nil {
			t.Errorf("it ended well")
		}
		killed(t, family)
		unchanged(t, m, before)
		m.Up(t)
	})
}

// Ctrl-C in the middle of the demo: it ends soon, and leaves nothing at all.
func TestInterrupt(t *testing.T) {
	meshtest.Need(t, "curl")
	meshtest.EachUser(t, func(t *testing.T, u meshtest.User) {
		m := meshtest.New(t, u)
		before := m.Host(t)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		patience := time.AfterFunc(5*aLot, cancel)
		defer patience.Stop()
		cmd := m.Cmd(ctx, "hasp", "demo", "--exit")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() && !strings.HasPrefix(lines.Text(), "$ oc run curl-boards-1 ") {
		}
		family := meshtest.Family(t, cmd.Process.Pid)
		// As a terminal does: to everything in the foreground.
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		patience.Reset(aLot)            // all of the demo takes longer
		_, _ = io.Copy(io.Discard, out) // until it has ended
		if err := cmd.Wait(); err == nil || ctx.Err() != nil {
			t.Errorf("it ended with %v (%v), want a failure at once", err, ctx.Err())
		}
		killed(t, family)
		unchanged(t, m, before)
	})
}

func top(t *testing.T, m *meshtest.Mesh, family []meshtest.Process) meshtest.Process {
	t.Helper()
	pid := m.Status(t).PID
	i := slices.IndexFunc(family, func(p meshtest.Process) bool { return p.PID == pid })
	if i < 0 {
		t.Fatalf("no process %d among %v", pid, family)
	}
	return family[i]
}

func find(t *testing.T, family []meshtest.Process, program string) meshtest.Process {
	t.Helper()
	i := slices.IndexFunc(family, func(p meshtest.Process) bool { return p.Program == program })
	if i < 0 {
		t.Fatalf("no %s among %v", program, family)
	}
	return family[i]
}

// served: a mesh client reads the page.
func served(t *testing.T, m *meshtest.Mesh, name string) {
	t.Helper()
	r := m.Client(t, meshtest.Client{Name: name, Meshed: true, Command: []string{"curl", "-sS", "-m", "20", "http://page:8080/"}})
	if r.Err != nil || !strings.Contains(r.Stdout, "the page") {
		t.Errorf("a mesh client got exit status %d: %s", r.Exit, r.Output())
	}
}

// refused: an outsider gets nothing, be it by a reset or because nobody listens.
func refused(t *testing.T, m *meshtest.Mesh, name string) {
	t.Helper()
	r := m.Client(t, meshtest.Client{Name: name, Command: []string{"curl", "-sS", "-m", "20", "http://page:8080/"}})
	if r.Exit != 56 && r.Exit != 7 || strings.Contains(r.Stdout, "the page") {
		t.Errorf("an outsider got exit status %d, want 56 or 7: %s", r.Exit, r.Output())
	}
}

const strict = `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default}, spec: {mtls: {mode: STRICT}}}`

const shop = `
apiVersion: v1
kind: Service
metadata: {name: page}
spec:
  selector: {app: page}
  ports: [{name: http, port: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: page}
spec:
  selector: {matchLabels: {app: page}}
  template:
    metadata:
      labels: {app: page}
      annotations: {sidecar.istio.io/inject: "true"}
    spec:
      containers:
      - name: page
        image: hasp/local
        command: [sh, -c, "mkdir -p page && echo the page >page/index.html && exec python3 -m http.server 8080 --bind :: --directory page"]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
`
