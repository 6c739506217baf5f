// Package proof is the conformance run: some hundred connections of every kind,
// under every mode, beside a packet capture that knows nothing of the mesh. What
// "hasp connections" says of each is held against what was on the wire, by a
// program of its own.
package proof

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hasp/test/meshtest"
)

//go:embed testdata/server.yaml
var server string

// phase is one setting of server and clients.
type phase struct{ name, objects string }

func authn(spec string) string {
	return "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: server}\nspec: {selector: {matchLabels: {app: server}}, " + spec + "}\n"
}

func rule(mode string) string {
	return "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: server}\nspec: {host: server, trafficPolicy: {tls: {mode: " + mode + "}}}\n"
}

const nobody = `---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: server}
spec:
  selector: {matchLabels: {app: server}}
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/nobody]}}]}]
`

var phases = []phase{
	{"permissive", authn("mtls: {mode: PERMISSIVE}")},
	{"permissive-disable", authn("mtls: {mode: PERMISSIVE}") + rule("DISABLE")},
	{"permissive-mutual", authn("mtls: {mode: PERMISSIVE}") + rule("ISTIO_MUTUAL")},
	{"strict", authn("mtls: {mode: STRICT}")},
	{"strict-disable", authn("mtls: {mode: STRICT}") + rule("DISABLE")},
	{"strict-mutual", authn("mtls: {mode: STRICT}") + rule("ISTIO_MUTUAL")},
	{"disable", authn("mtls: {mode: DISABLE}")},
	{"disable-mutual", authn("mtls: {mode: DISABLE}") + rule("ISTIO_MUTUAL")},
	{"one-port-strict", authn(`mtls: {mode: PERMISSIVE}, portLevelMtls: {"8080": {mode: STRICT}}`)},
	{"nobody-may", authn("mtls: {mode: STRICT}") + nobody},
}

// table gathers what the command says, over time: the mesh forgets, the last word
// about a connection stays. Rows are the server's where the server told, and the
// client's, by its own number, where it has not (yet).
type table struct{ server, client map[end]told }

// end is a row of a proxy, which keeps its number while its trace may change: a
// connection is named anew when it turns out to be TLS.
type end struct {
	Node string
	ID   uint64
}

type told struct {
	Trace                   string
	End                     time.Time
	Source                  struct{ Workload string }
	AtSource, AtDestination *end
	raw                     json.RawMessage
}

// gather asks the mesh once more, and returns how many connections of each client
// have ended.
func (tb table) gather(t *testing.T, m *meshtest.Mesh) map[string]int {
	t.Helper()
	r := m.Hasp(t, "connections", "-o", "json")
	r.Must(t)
	var rows []json.RawMessage
	if err := json.Unmarshal([]byte(r.Stdout), &rows); err != nil {
		t.Fatalf("hasp connections -o json: %v\n%s", err, r.Output())
	}
	ended := map[string]int{}
	for _, raw := range rows {
		row := told{raw: raw}
		if err := json.Unmarshal(raw, &row); err != nil {
			t.Fatal(err)
		}
		if row.AtDestination == nil {
			tb.client[*row.AtSource] = row
			continue
		}
		if !row.End.IsZero() {
			ended[row.Source.Workload]++
		}
		// A client that is gone is forgotten before its server is.
		if was := tb.server[*row.AtDestination]; was.AtSource == nil || row.AtSource != nil || was.End.IsZero() {
			tb.server[*row.AtDestination] = row
		}
	}
	return ended
}

// rows are all connections, once each.
func (tb table) rows() []json.RawMessage {
	joined, traces := map[end]bool{}, map[string]bool{}
	var out []json.RawMessage
	for _, r := range tb.server {
		out = append(out, r.raw)
		traces[r.Trace] = true
		if r.AtSource != nil {
			joined[*r.AtSource] = true
		}
	}
	for e, r := range tb.client {
		if !joined[e] && !traces[r.Trace] {
			out = append(out, r.raw)
		}
	}
	return out
}

// reportedWithin is far more than the second that a report takes.
const reportedWithin = time.Minute

func TestProof(t *testing.T) {
	driver, sniff, join := meshtest.Build(t, "proof/driver"), meshtest.Build(t, "sniff"), meshtest.Build(t, "proof/join")
	m := meshtest.Start(t, meshtest.Options{User: meshtest.Ordinary()})
	m.Apply(t, strings.ReplaceAll(server, "DRIVER", driver))
	gateway, err := os.ReadFile(filepath.Join(meshtest.Root(), "demo", "gateway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	m.Apply(t, string(gateway))
	m.Available(t)
	m.Kubectl(t, "-n", "istio-system", "wait", "--for=condition=Available", "deployment", "--all", "--timeout=180s").Must(t)
	tap := m.Sniff(t, sniff)

	v4, v6 := m.ServiceIPs(t, "server")
	page := m.Status(t).Page
	pods := map[netip.Addr]string{}
	seen := table{map[end]told{}, map[end]told{}}
	number := 0
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for _, ph := range phases {
		m.Change(t, func() { m.Apply(t, ph.objects) })
		made := map[string]int{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, c := range []struct {
			name   string
			meshed bool
			args   []string
		}{
			{"inside", true, []string{"call", v4.String(), v6.String()}},
			{"outside", false, []string{"call", v4.String(), v6.String()}},
			{"stranger", false, append([]string{"strangers"}, podIPs(t, m)...)},
		} {
			wg.Go(func() {
				name := ph.name + "-" + c.name
				r := m.Client(t, meshtest.Client{Name: name, Meshed: c.meshed, Command: append([]string{driver}, c.args...)})
				var said struct{ Made int }
				if err := json.Unmarshal([]byte(r.Stdout), &said); err != nil {
					t.Errorf("%s: %v\n%s", name, err, r.Output())
				}
				mu.Lock()
				defer mu.Unlock()
				made[meshtest.Project+"/"+name] = said.Made
			})
		}
		wg.Go(func() { throughGateway(t, page) })
		wg.Wait()
		for _, p := range allPods(t, m) {
			for _, ip := range p.ips {
				pods[ip] = p.name
			}
		}
		// What the proxies have not told yet they tell within the second.
		for deadline := time.Now().Add(reportedWithin); ; <-tick.C {
			missing := ""
			for name, n := range made {
				if got := seen.gather(t, m)[name]; got < n {
					missing += fmt.Sprintf(" %s made %d connections and %d are reported to have ended;", name, n, got)
				}
			}
			if missing == "" {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("phase %s:%s", ph.name, missing)
				break
			}
		}
		for _, n := range made {
			number += n
		}
		m.Kubectl(t, "delete", "pod", "-l", "client", "--grace-period=0").Must(t)
		m.Change(t, func() { m.KubectlInput(t, ph.objects, "delete", "-f", "-").Must(t) })
	}
	seen.gather(t, m)
	report := tap.Report(t)
	if report.Dropped > 0 {
		t.Fatalf("the capture lost %d packets: what it did not see proves nothing", report.Dropped)
	}

	input, err := json.Marshal(map[string]any{"capture": report, "rows": seen.rows(), "pods": pods, "ports": []int{8080, 8082, 8443, 9001, 9002, 9090}})
	if err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv("PROOF_DIR"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "case.json"), input, 0o600); err != nil {
			t.Error(err)
		}
	}
	cmd := exec.Command(join)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v", err)
	}
	if number < 100 {
		t.Errorf("only %d connections were made: that proves little", number)
	}
	if !bytes.Contains(out, []byte("on connections that were kept")) {
		t.Error("no connection was carried on another's handshake")
	}
	t.Logf("%d connections in %d phases\n%s", number, len(phases), out)
}

// throughGateway asks for some pages by the ingress gateway.
func throughGateway(t *testing.T, page string) {
	for range 3 {
		// It answers, if only 503: which of the two is for the table to say.
		if out, err := exec.Command("curl", "-sS", "-m", "10", page+"/").CombinedOutput(); err != nil {
			t.Errorf("curl %s: %v\n%s", page, err, out)
		}
	}
}

func podIPs(t *testing.T, m *meshtest.Mesh) (out []string) {
	t.Helper()
	for _, p := range m.Pods(t, "-l", "app=server") {
		for _, ip := range p.IPs {
			out = append(out, ip.String())
		}
	}
	return out
}

type pod struct {
	name string // NAMESPACE/NAME
	ips  []netip.Addr
}

// allPods of all namespaces, those that ended too.
func allPods(t *testing.T, m *meshtest.Mesh) (out []pod) {
	t.Helper()
	r := m.Kubectl(t, "get", "pods", "-A", "-o", `jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {.status.podIPs[*].ip}{"\n"}{end}`)
	r.Must(t)
	for line := range strings.Lines(r.Stdout) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		p := pod{name: words[0]}
		for _, w := range words[1:] {
			if ip, err := netip.ParseAddr(w); err == nil {
				p.ips = append(p.ips, ip)
			}
		}
		out = append(out, p)
	}
	return out
}
