package control_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/control"
	"hasp/mesh"
	"hasp/truth"
	"hasp/xds/server"
)

var (
	webID    = spiffeid.RequireFromString(web)
	istiodID = spiffeid.RequireFromString("spiffe://cluster.local/ns/istio-system/sa/istiod")
)

// report is what the proxy of shop/web-1 says after a client without a sidecar
// has called it n times.
func report(n uint64) *mesh.Report {
	now := time.Now()
	return &mesh.Report{Start: now.Add(-time.Hour), At: now, Generation: 1, Whole: n == 1, Edges: []mesh.Edge{{
		EdgeKey: mesh.EdgeKey{Direction: mesh.InboundDir, Peer: "shop/curl", Port: 8080, Security: mesh.Plaintext, Allowed: true},
		First:   now.Add(-time.Minute), Last: now, Connections: n, Why: "no sidecar at the source",
	}}}
}

// views of a control plane, over HTTP.
func views(t *testing.T, p *plane) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(p.Views())
	t.Cleanup(srv.Close)
	return srv
}

func get(t *testing.T, srv *httptest.Server, path string, v any) http.Header {
	t.Helper()
	resp, err := srv.Client().Get(srv.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, resp, v)
}

func decode(t *testing.T, resp *http.Response, v any) http.Header {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s", resp.Request.URL, resp.Status, body)
	}
	if err := json.Unmarshal(body, v); err != nil {
		t.Fatalf("%s: %v in %s", resp.Request.URL, err, body)
	}
	return resp.Header
}

func TestWhoMayReport(t *testing.T) {
	plain := strings.Replace(strings.Replace(pod("curl", "10.0.0.9"), `, annotations: {sidecar.istio.io/inject: "true"}`, "", 1), "app: web", "app: curl", 1)
	p := start(t, pod("web-1", "10.0.0.1"), plain)
	other := spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/other")
	for _, c := range []struct {
		node string
		peer spiffeid.ID
		want error
	}{
		{"shop/web-1", webID, nil},
		{"shop/web-1", istiodID, nil}, // another replica passes it on
		{"shop/web-1", other, server.ErrDenied},
		{"shop/web-2", webID, server.ErrNotFound},
		{"shop/curl", webID, server.ErrDenied},
		{"shop/curl", istiodID, server.ErrDenied}, // there is no proxy that could have said it
	} {
		if err := p.Report(c.node, c.peer, report(1)); !errors.Is(err, c.want) {
			t.Errorf("%s for %s: %v, want %v", c.peer, c.node, err, c.want)
		}
	}
}

func TestViews(t *testing.T) {
	p := start(t, pod("web-1", "10.0.0.1"))
	srv := views(t, p)
	r := report(1)
	r.Node, r.Identity = "shop/somebody", "spiffe://elsewhere/ns/a/sa/b" // what a proxy says of itself counts for nothing
	if err := p.Report("shop/web-1", webID, r); err != nil {
		t.Fatal(err)
	}
	var f truth.Facts
	h := get(t, srv, "/facts", &f)
	if len(f.Edges) != 1 || f.Edges[0].Node != "shop/web-1" || f.Edges[0].Connections != 1 || f.Generation != 1 {
		t.Errorf("facts: %+v", f)
	}
	if got := h.Get(control.VersionHeader); got != fmt.Sprint(f.Version) {
		t.Errorf("%s %q, want %d", control.VersionHeader, got, f.Version)
	}
	if len(f.Proxies) != 1 || f.Proxies[0].Identity != web || !f.Proxies[0].Connected {
		t.Errorf("proxies: %+v", f.Proxies)
	}
	p.Gone("shop/web-1")
	var later truth.Facts
	get(t, srv, "/facts", &later)
	if later.Proxies[0].Connected || later.Version <= f.Version {
		t.Errorf("after its stream ended: version %d, then %d with %+v", f.Version, later.Version, later.Proxies)
	}

	for path, v := range map[string]any{
		"/connections?workload=shop/web-1": &[]truth.Link{}, "/plaintext": &truth.PlainLedger{},
		"/graph": &truth.Graph{}, "/graph?window=24h": &truth.Graph{}, "/timeline": &[]truth.Change{},
	} {
		if got := get(t, srv, path, v).Get(control.VersionHeader); got != fmt.Sprint(later.Version) {
			t.Errorf("%s: version %q, want %d", path, got, later.Version)
		}
	}
	var plain truth.PlainLedger
	get(t, srv, "/plaintext", &plain)
	if len(plain.Lines) != 1 {
		t.Errorf("plaintext: %+v", plain)
	}
}

// TestFactsAreAcknowledged: a proxy has in force what changes nothing for it.
func TestFactsAreAcknowledged(t *testing.T) {
	p := start(t, pod("web-1", "10.0.0.1"))
	p.proxy(t, "shop/web-1", web)
	if err := p.Report("shop/web-1", webID, report(1)); err != nil {
		t.Fatal(err)
	}
	p.apply(t, strings.ReplaceAll(strict, "shop", "elsewhere"))
	eventually(t, "the newest generation is in force", func() bool {
		w, f, err := p.Facts()
		return err == nil && w.Generation > 1 && len(f.Proxies) == 1 && f.Proxies[0].Generation == w.Generation
	})
}

func TestViewsRefuse(t *testing.T) {
	srv := views(t, start(t, pod("web-1", "10.0.0.1")))
	for _, c := range []struct {
		method, path, body string
		want               int
		say                string
	}{
		{"GET", "/why?id=0123456789abcdef", "", 404, `no connection "0123456789abcdef" is remembered: those that live are, and the last 256 of each proxy that ended; hasp connections -o wide lists them`},
		{"GET", "/graph?window=soon", "", 400, `window "soon" is not a duration such as 60s`},
		{"GET", "/graph?window=-1s", "", 400, `window "-1s" is not a duration`},
		{"POST", "/facts", "", 405, "Method Not Allowed"},
		{"GET", "/nothing", "", 404, "not found"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, srv.URL+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.want || !strings.Contains(string(body), c.say) {
			t.Errorf("%s %s: %s: %s; want %d, %q", c.method, c.path, resp.Status, body, c.want, c.say)
		}
	}
}

func TestEvents(t *testing.T) {
	p := start(t, pod("web-1", "10.0.0.1"))
	srv := views(t, p)
	resp, err := srv.Client().Get(srv.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("Content-Type %q", got)
	}
	in := bufio.NewScanner(resp.Body)
	next := func() (version uint64) {
		t.Helper()
		for in.Scan() {
			if data, ok := strings.CutPrefix(in.Text(), "data: "); ok {
				if _, err := fmt.Sscan(data, &version); err != nil {
					t.Fatal(err)
				}
				return version
			}
		}
		t.Fatalf("the events ended: %v", in.Err())
		return 0
	}
	first := next()
	for n := range uint64(100) {
		if err := p.Report("shop/web-1", webID, report(n+1)); err != nil {
			t.Fatal(err)
		}
	}
	var f truth.Facts
	get(t, srv, "/facts", &f)
	events := 0
	for got := first; got < f.Version; events++ {
		was := got
		if got = next(); got <= was {
			t.Fatalf("version %d after %d", got, was)
		}
	}
	if events > 20 {
		t.Errorf("%d events for 100 reports in a moment: they are not gathered", events)
	}
	p.apply(t, strict) // a new World is news, too
	next()
}

func TestEventsAreBounded(t *testing.T) {
	srv := views(t, start(t))
	var open []*http.Response
	for range 64 {
		resp, err := srv.Client().Get(srv.URL + "/events")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, resp)
	}
	resp, err := srv.Client().Get(srv.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one more: %s", resp.Status)
	}
	for _, resp := range open {
		if resp.StatusCode != http.StatusOK {
			t.Errorf("one of 64: %s", resp.Status)
		}
		resp.Body.Close()
	}
}

func TestLedgerOutlivesTheControlPlane(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ledger.json")
	with := func(c *control.Config) { c.Ledger = control.LedgerFile(file) }
	t.Run("before", func(t *testing.T) {
		p := startAs(t, with, pod("web-1", "10.0.0.1"))
		if err := p.Report("shop/web-1", webID, report(3)); err != nil {
			t.Fatal(err)
		}
	})
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the ledger: %v, %v; want mode 0600", info, err)
	}
	t.Run("after", func(t *testing.T) {
		_, f, err := startAs(t, with, pod("web-1", "10.0.0.1")).Facts()
		if err != nil || len(f.Edges) != 1 || f.Edges[0].Connections != 3 {
			t.Errorf("after a restart: %+v, %v", f, err)
		}
	})
	for name, damage := range map[string]string{"damaged": `{"version":1,"lines":[{"ed`, "newer": `{"version":2,"lines":[]}`, "empty": ""} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(damage), 0o600); err != nil {
				t.Fatal(err)
			}
			var log buffer
			p := startAs(t, func(c *control.Config) { with(c); c.Log = slog.New(slog.NewTextHandler(&log, nil)) }, pod("web-1", "10.0.0.1"))
			if _, f, err := p.Facts(); err != nil || len(f.Edges) != 0 {
				t.Errorf("%+v, %v; want an empty ledger", f, err)
			}
			if aside, err := os.ReadFile(file + ".unreadable"); err != nil || string(aside) != damage {
				t.Errorf("put aside: %q, %v", aside, err)
			}
			if !strings.Contains(log.String(), "the ledger cannot be read and begins anew") {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}

// buffer may be written and read at a time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
