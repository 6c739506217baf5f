package crash

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"hasp/test/meshtest"
)

// Certificates of half a minute are renewed at half their life, more than twice
// during the run, while connections live on and new ones are made: nothing is
// lost. The first certificates have ended well before the run does.
func TestRotation(t *testing.T) {
	if testing.Short() {
		t.Skip("certificates live half a minute at least: not in a short run")
	}
	const lasts = 50 * time.Second
	load := meshtest.Build(t, "load")
	m := meshtest.New(t, meshtest.Ordinary())
	m.Up(t, "--app", "none", "--project", meshtest.Project, "--cert-lifetime", "30s")
	m.Apply(t, loadServer(load))
	m.Change(t, func() { m.Apply(t, strict) })
	m.Available(t)
	r := m.Client(t, meshtest.Client{Name: "client", Meshed: true, Command: []string{
		load, "run", "-to", "server:8080", "-for", lasts.String(), "-rate", "100", "-kept", "8", "-fresh", "4"}})
	r.Must(t)
	var got struct {
		Sent, Failed, Fresh, Redialed int
		Errors                        map[string]int
	}
	if err := json.Unmarshal([]byte(r.Stdout), &got); err != nil {
		t.Fatalf("%v\n%s", err, r.Output())
	}
	signed := m.Log(t, "certificate signed")
	t.Logf("%+v; %d certificates", got, len(signed))
	// Two proxies, each with its first certificate and two renewals.
	if len(signed) < 2*3 {
		t.Errorf("%d certificates were signed, want 6 at least:\n%s", len(signed), strings.Join(signed, "\n"))
	}
	if got.Failed > 0 || got.Redialed > 0 || got.Sent < 90*int(lasts.Seconds()) {
		t.Errorf("of %d requests %d failed and %d connections broke, want none: %v", got.Sent, got.Failed, got.Redialed, got.Errors)
	}
}

func loadServer(load string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  selector: {app: server}
  ports: [{name: http, port: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata:
      labels: {app: server}
      annotations: {sidecar.istio.io/inject: "true"}
    spec:
      containers:
      - name: server
        image: hasp/local
        command: [%s, serve]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
`, load)
}
