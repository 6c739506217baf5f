package dashboard_test

import (
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"hasp/dashboard"
	"hasp/mesh"
	"hasp/test/dashboard/fake"
	"hasp/truth"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// serve the pages of a mesh that is made up: no proxy reported what they show.
func serve(t *testing.T, m *fake.Mesh) string {
	srv := httptest.NewServer(dashboard.Handler(m))
	t.Cleanup(srv.Close)
	return srv.URL
}

func get(t *testing.T, address string) (int, string) {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestPages(t *testing.T) {
	base := serve(t, fake.Shop())
	for path, want := range map[string][]string{
		"/":                 {"5 of 9 edges are mutual TLS", `href="#lock-partial"`, "<b>70 %</b> mutual TLS", "42.0/s · 3 errors", "<svg viewBox"},
		"/?namespace=other": {"Nobody talks to anybody."},
		"/edge?from=shop%2Fweb&to=shop%2Fboards&port=8080": {
			"X25519MLKEM768", "spiffe://cluster.local/ns/shop/sa/web", "PeerAuthentication shop/default (namespace)", "100 % of 12 connections", "33.0/s, 0 errors", "/why/5ca1ab1e00000007",
		},
		"/edge?from=shop%2Fweb&to=shop%2Fprofiles&port=8080": {"The two ends disagree.", "the server reports nothing"},
		"/workload/shop/boards":                              {"PERMISSIVE", "no sidecar at the source", "/workload/shop/boards-7d4b9c-x2x", "10.88.0.0/24", "Its own ledger, 2 lines", "inject shop/metrics-collector"},
		"/workload/shop/metrics-collector":                   {"It has no proxy"},
		"/outside?address=10.88.0.77":                        {"Outside the mesh.", "plaintext to a STRICT port"},
		"/plaintext":                                         {"1 client would be cut by STRICT", "inject shop/metrics-collector", "would cut 1 client", "safe"},
		"/timeline":                                          {"alice (kubectl-apply)", "mtls.mode PERMISSIVE", "14 ms", "argocd"},
		"/why/5ca1ab1e00000000":                              {"certificate is of another authority", "Restart the server", "spiffe://other.example/ns/shop/sa/boards-db", "40 ms behind", "unknown_authority"},
		"/what-if":                                           {`<textarea id="yaml"`},
		"/status": {"Generation 17, enforced by every proxy in 3.0 ms", "up to date", "behind", "refused: cannot do &lt;x&gt;", "not connected",
			"shop/metrics-collector", "http://127.0.0.1:8080"},
	} {
		status, page := get(t, base+path)
		if status != http.StatusOK {
			t.Errorf("%s: status %d", path, status)
		}
		for _, w := range want {
			if !strings.Contains(page, w) {
				t.Errorf("%s: the page lacks %q", path, w)
			}
		}
	}
	for path, want := range map[string]int{"/nope": 404, "/why/0000": 404, "/workload/shop/nobody": 404, "/edge?from=a&to=b&port=1": 404, "/?window=x": 400} {
		if status, page := get(t, base+path); status != want || !strings.Contains(page, "</html>") {
			t.Errorf("%s: status %d, want %d and a page", path, status, want)
		}
	}
}

func TestNoAnswer(t *testing.T) {
	m := fake.Shop()
	m.Err = errors.New("the control plane <is> away")
	base := serve(t, m)
	for _, path := range []string{"/", "/plaintext", "/timeline", "/status", "/workload/a/b", "/edge"} {
		if status, page := get(t, base+path); status != http.StatusServiceUnavailable || !strings.Contains(page, "the control plane &lt;is&gt; away") {
			t.Errorf("%s: status %d, %s", path, status, page)
		}
	}
}

// TestList is the golden of the accessible form of the graph: its sentence, and
// the table as it is read out.
func TestList(t *testing.T) {
	_, page := get(t, serve(t, fake.Shop())+"/")
	got := text(regexp.MustCompile(`(?s)<p id="said".*?</p>`).FindString(page)) + "\n" + text(regexp.MustCompile(`(?s)<table.*?</table>`).FindString(page))
	const golden = "testdata/edges.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// text of HTML, a row a line.
func text(html string) string {
	html = regexp.MustCompile(`\s*\n\s*`).ReplaceAllString(html, "")
	html = regexp.MustCompile(`</(td|th)><`).ReplaceAllString(html, " | <")
	html = regexp.MustCompile(`</(tr|caption|p)>`).ReplaceAllString(html, "\n")
	html = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(html, "")
	return regexp.MustCompile(` *\| *\n`).ReplaceAllString(html, "\n")
}

// TestStrangersNames: what a workload calls itself is text and nothing else.
func TestStrangersNames(t *testing.T) {
	m := fake.Shop()
	evil := `shop/<script>alert(1)</script>"onload="x`
	m.Nodes = append(m.Nodes, truth.GraphNode{ID: evil, Name: evil, Namespace: `"><img src=x>`, Kind: truth.KindWorkload, Meshed: true})
	m.Edges = append(m.Edges, truth.GraphEdge{From: evil, To: "shop/web", Port: 80, Lock: "closed", Protocol: `"><u>`, Why: "javascript:alert(1)", Service: "`${x}`", Rules: []mesh.Origin{{Kind: "<i>", Name: "<i>"}}})
	base := serve(t, m)
	for _, path := range []string{"/", "/edge?port=80&to=shop/web&from=" + url.QueryEscape(evil), "/outside?address=" + url.QueryEscape(evil)} {
		_, page := get(t, base+path)
		if !strings.Contains(page, "&lt;script&gt;alert(1)") {
			t.Errorf("%s: the page lacks the name", path)
		}
		for _, bad := range []string{"<script>alert", "<img", `"><u>`, "<i>", `"onload`} {
			if strings.Contains(page, bad) {
				t.Errorf("%s: the page has %s", path, bad)
			}
		}
	}
}

func TestForeignHostIsRefused(t *testing.T) {
	base := serve(t, fake.Shop())
	for host, want := range map[string]int{"rebound.example.com": 403, "localhost:20001": 200, "127.0.0.1": 200, "[::1]:80": 200, "localhost.example.com": 403, "10.0.0.1": 403} {
		req, err := http.NewRequest("GET", base+"/api/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("Host %s: status %d, want %d", host, resp.StatusCode, want)
		}
	}
}

func TestWhatIf(t *testing.T) {
	base := serve(t, fake.Shop())
	own, _ := url.Parse(base)
	strict := url.Values{"yaml": {"kind: PeerAuthentication\nspec: {mtls: {mode: STRICT}}"}}.Encode()
	for _, c := range []struct {
		name, body, kind, site, origin string
		status                         int
		want                           []string
	}{
		{"hurts", strict, "", "same-origin", "", 200, []string{"Somebody would be hurt.", `class="edge cut"`, `class="edge upgraded"`, "10.88.0.99", "shop/reports was never seen", "mode: STRICT"}},
		{"old browser", strict, "", "", "http://" + own.Host, 200, []string{"would be cut"}},
		{"hurts nobody", "yaml=kind:+X", "", "", "", 200, []string{"Nobody who was seen would be hurt."}},
		{"not YAML", "yaml=%3Cb%3E", "", "", "", 400, []string{"line 1: no kind", "&lt;b&gt;</textarea>"}},
		{"nothing", "yaml=+", "", "", "", 400, []string{"there is nothing to ask about"}},
		{"too long", "yaml=kind:" + strings.Repeat("a", 1<<20), "", "", "", 400, []string{"longer than 1 MiB"}},
		{"far too long", "yaml=kind:" + strings.Repeat("a", 4<<20), "", "", "", 400, []string{"longer than 1 MiB"}},
		{"not a form", strict, "text/plain", "", "", 400, []string{"field yaml of a form"}},
		{"another site", strict, "", "cross-site", "", 403, nil},
		{"another site, old browser", strict, "", "", "http://other.example", 403, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequest("POST", base+"/what-if", strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			for k, v := range map[string]string{"Content-Type": c.kind, "Sec-Fetch-Site": c.site, "Origin": c.origin} {
				if v != "" {
					req.Header.Set(k, v)
				}
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			page, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status {
				t.Errorf("status %d, want %d", resp.StatusCode, c.status)
			}
			for _, w := range c.want {
				if !strings.Contains(string(page), w) {
					t.Errorf("the page lacks %q", w)
				}
			}
		})
	}
}

// TestNothingInline: the content policy lets no inline script or style run, and
// the pages have none.
func TestNothingInline(t *testing.T) {
	base := serve(t, fake.Shop())
	resp, err := http.Get(base)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if p := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(p, "default-src 'none'") || strings.Contains(p, "unsafe") {
		t.Errorf("Content-Security-Policy: %s", p)
	}
	inline := regexp.MustCompile(`(?i)<style|<script[^>]*>[^<]|\son[a-z]+=|\sstyle=|https?://[^"' ]*\.(js|css)`)
	for _, path := range []string{"/", "/edge?from=shop%2Fweb&to=shop%2Fboards&port=8080", "/workload/shop/boards", "/plaintext", "/what-if", "/timeline", "/status", "/why/5ca1ab1e00000000", "/nope"} {
		if _, page := get(t, base+path); inline.MatchString(page) {
			t.Errorf("%s: %s", path, inline.FindString(page))
		}
	}
}
