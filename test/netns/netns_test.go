package netns

import (
	_ "embed"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"hasp/test/meshtest"
	"hasp/test/wire"
)

//go:embed testdata/servers.yaml
var servers string

// together is how many cells run at the same time.
const together = 4

// TestMatrix runs every cell as an ordinary user, and those of one program of
// each nature as root, where the network is the same and its maker another.
func TestMatrix(t *testing.T) {
	meshtest.Need(t, "curl", "python3", "node", "redis-server", "redis-cli", "psql", "initdb", "mariadb", "mariadbd", "openssl")
	sniff := meshtest.Build(t, "sniff")
	meshtest.EachUser(t, func(t *testing.T, u meshtest.User) {
		m := meshtest.Start(t, meshtest.Options{User: u})
		m.Apply(t, servers)
		m.Available(t)
		tap := m.Sniff(t, sniff)
		some := programs
		if u != meshtest.Ordinary() {
			some = slices.DeleteFunc(slices.Clone(programs), func(p program) bool {
				return p.name != "curl-python" && p.name != "psql-tls" && p.name != "mariadb"
			})
		}
		var runs []run
		for _, mode := range modes {
			runs = append(runs, phase(t, m, mode, some)...)
		}
		report := tap.Report(t)
		if report.Dropped > 0 {
			t.Errorf("the capture lost %d packets: what it did not see proves nothing", report.Dropped)
		}
		places := serverPlaces(t, m)
		for _, r := range runs {
			problems := append(r.checkOutcome(), r.checkWire(report, places)...)
			if len(problems) > 0 {
				t.Errorf("%-40s FAILED: %s\n%s", r.name(), strings.Join(problems, "; "), r.result.Output())
				continue
			}
			t.Logf("%-40s %s", r.name(), r.outcome())
		}
		t.Logf("%d cells, %d packets seen", len(runs), report.Packets)
	})
}

// run is a cell and what came of it.
type run struct {
	cell
	result meshtest.Result
	ips    []netip.Addr // of the client's pod
}

// phase runs all cells of one mode.
func phase(t *testing.T, m *meshtest.Mesh, mode mode, programs []program) []run {
	m.Change(t, func() { m.Apply(t, mode.policy) })
	var runs []run
	for _, p := range programs {
		v4, v6 := m.ServiceIPs(t, p.service)
		for _, to := range []netip.Addr{v4, v6} {
			for _, meshed := range []bool{true, false} {
				runs = append(runs, run{cell: cell{mode: mode, program: p, meshed: meshed, to: to}})
			}
		}
	}
	start := time.Now()
	var g errgroup.Group
	g.SetLimit(together)
	for i := range runs {
		g.Go(func() error {
			c := runs[i].cell
			runs[i].result = m.Client(t, meshtest.Client{Name: c.name(), Meshed: c.meshed, Command: c.program.command(c.to, c.mark())})
			return nil
		})
	}
	g.Wait()
	t.Logf("%s: %d cells in %.1f s", mode.name, len(runs), time.Since(start).Seconds())
	pods := map[string][]netip.Addr{}
	for _, p := range m.Pods(t, "-l", "client") {
		pods[p.Name] = p.IPs
	}
	for i := range runs {
		runs[i].ips = pods[runs[i].name()]
	}
	m.Kubectl(t, "delete", "pod", "-l", "client", "--grace-period=0").Must(t)
	m.Change(t, func() { m.KubectlInput(t, mode.policy, "delete", "-f", "-").Must(t) })
	return runs
}

// serverPlaces are the addresses of the servers: virtual ones and the pods'.
func serverPlaces(t *testing.T, m *meshtest.Mesh) map[netip.Addr]bool {
	places := map[netip.Addr]bool{}
	for _, p := range m.Pods(t, "-l", "app") {
		for _, ip := range p.IPs {
			places[ip] = true
		}
	}
	for _, p := range programs {
		v4, v6 := m.ServiceIPs(t, p.service)
		places[v4], places[v6] = true, true
	}
	return places
}

func (r run) outcome() string {
	switch {
	case r.secret():
		return "served, mutual TLS 1.3"
	case r.works() && r.program.ownTLS:
		return "served, its own TLS"
	case r.works():
		return "served, plaintext"
	}
	return "reset, no byte answered"
}

// checkOutcome compares what the client saw.
func (r run) checkOutcome() (problems []string) {
	out := r.result.Output()
	if r.works() {
		want := r.program.answer
		if want == "" {
			want = r.mark()
		}
		if r.result.Err != nil || !strings.Contains(out, want) {
			problems = append(problems, fmt.Sprintf("want an answer, got exit status %d", r.result.Exit))
		}
		return problems
	}
	if r.result.Exit <= 0 || r.program.exit != 0 && r.result.Exit != r.program.exit || !r.program.refused.MatchString(out) {
		problems = append(problems, fmt.Sprintf("want it reset, got exit status %d", r.result.Exit))
	}
	return problems
}

// checkWire compares what could be read on the bridge.
func (r run) checkWire(report wire.Report, places map[netip.Addr]bool) (problems []string) {
	seen, read := 0, false
	for _, c := range report.Connections {
		if !slices.Contains(r.ips, c.Client.Addr()) || !places[c.Server.Addr()] {
			continue
		}
		seen++
		problems = append(problems, r.checkConnection(c)...)
		read = read || slices.Contains(c.FromClient.Markers, r.mark())
	}
	switch {
	case len(r.ips) != 2:
		problems = append(problems, fmt.Sprintf("the pod has the addresses %v", r.ips))
	case seen == 0:
		problems = append(problems, "no connection was seen")
	// The capture can read what is there to be read: the control.
	case r.works() && !r.secret() && !r.program.ownTLS && !read:
		problems = append(problems, "its plaintext was not seen")
	}
	return problems
}

func (r run) checkConnection(c wire.Connection) (problems []string) {
	fail := func(format string, a ...any) {
		problems = append(problems, fmt.Sprintf("%s to %s: ", c.Client, c.Server)+fmt.Sprintf(format, a...))
	}
	if c.Server.Addr().Is4() != r.to.Is4() {
		fail("another address family than the client asked for")
	}
	if c.FromClient.Truncated || c.FromServer.Truncated {
		fail("not seen whole")
	}
	marks := append(slices.Clone(c.FromClient.Markers), c.FromServer.Markers...)
	switch {
	case r.secret():
		if c.TLS != "1.3" || !slices.Contains(c.ALPN, "istio") {
			fail("TLS %q with ALPN %q, want 1.3 and istio", c.TLS, c.ALPN)
		}
		if len(marks) > 0 {
			fail("%v could be read", marks)
		}
	case r.program.ownTLS && len(marks) > 0:
		fail("%v could be read", marks)
	case !r.works() && c.FromServer.Bytes > 0:
		fail("%d bytes answered", c.FromServer.Bytes)
	}
	return problems
}
