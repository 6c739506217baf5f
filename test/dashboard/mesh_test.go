package dashboard

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hasp/test/meshtest"
)

// TestMesh looks at a mesh that runs: its locks close, in the page that is open,
// when its policy says so.
func TestMesh(t *testing.T) {
	meshtest.Need(t, "chromium")
	m := meshtest.Start(t, meshtest.Options{User: meshtest.Ordinary(), Args: []string{"--project", meshtest.Project}})
	var at struct{ Page, Dashboard string }
	if err := json.Unmarshal([]byte(m.Hasp(t, "status", "-o", "json").Must(t).Stdout), &at); err != nil {
		t.Fatal(err)
	}
	if got := m.Hasp(t, "dashboard", "--no-browser").Must(t).Stdout; got != at.Dashboard+"\n" {
		t.Errorf("hasp dashboard says %q, hasp status %s", got, at.Dashboard)
	}
	visit(t, at.Page+"/shared")

	u := sit(t, at.Dashboard)
	u.open("/?window=10s") // what was plaintext before is soon forgotten
	edge := func(from, to string) string {
		return `document.querySelector('a.edge[aria-label^="` + from + ` to ` + to + `"]')`
	}
	gateway, boards := edge("istio-system/istio-ingressgateway", "shop/app-ui"), edge("shop/app-ui", "shop/boards,")
	u.until(gateway + `?.matches(".open") && ` + boards + `?.matches(".open")`)
	u.must(u.b.Eval(u.ctx, `window.same = true`, nil))

	mutual, err := os.ReadFile(filepath.Join(m.Demo(), "istio-configuration", "destinationrule-mtls.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	m.Change(t, func() { m.Kubectl(t, "delete", "destinationrules", "--all").Must(t) })
	m.Change(t, func() { m.Apply(t, strings.ReplaceAll(string(mutual), "microservices-demo", meshtest.Project)) })
	u.until(gateway + `?.matches(".closed") && ` + boards + `?.matches(".closed")`)
	if got := u.text(`String(window.same)`); got != "true" {
		t.Errorf("the page was loaded anew")
	}

	seen := len(u.b.Events())
	u.must(u.b.Eval(u.ctx, boards+`.dispatchEvent(new MouseEvent("click", {bubbles: true}))`, nil))
	u.must(u.b.Wait(u.ctx, seen, "Page.loadEventFired"))
	page := u.text(`document.querySelector("main").textContent`)
	for _, want := range []string{"shop/app-ui", "X25519MLKEM768", "1.3", "spiffe://cluster.local/ns/shop/sa/default", "DestinationRule shop/destinationrule-mtls-istio-mutual"} {
		if !strings.Contains(page, want) {
			t.Errorf("the edge's page lacks %q:\n%s", want, page)
		}
	}

	u.open("/timeline")
	if page := u.text(`document.querySelector("main").textContent`); !strings.Contains(page, "tls.mode ISTIO_MUTUAL") || !strings.Contains(page, "kubectl") {
		t.Errorf("the timeline does not tell of the rule and who made it:\n%s", page)
	}

	u.open("/what-if")
	seen = len(u.b.Events())
	u.must(u.b.Eval(u.ctx, `document.getElementById("yaml").value = 'apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: strict}\nspec: {mtls: {mode: STRICT}}';
		document.querySelector("form.candidate button").click()`, nil))
	u.must(u.b.Wait(u.ctx, seen, "Page.loadEventFired"))
	if page := u.text(`document.querySelector("main").textContent`); !strings.Contains(page, "PeerAuthentication shop/strict created") {
		t.Errorf("what-if does not tell of the policy:\n%s", page)
	}
}

// visit a page over and over, while the test runs.
func visit(t *testing.T, page string) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { stop(); <-done })
	go func() {
		defer close(done)
		pace := time.NewTicker(50 * time.Millisecond)
		defer pace.Stop()
		for ctx.Err() == nil {
			if req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil); err == nil {
				if resp, err := http.DefaultClient.Do(req); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
			select {
			case <-ctx.Done():
			case <-pace.C:
			}
		}
	}()
}
