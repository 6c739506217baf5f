package scraper_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sharedboards/internal/scraper"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ask sends one request to a scraper whose search engine is at upstream.
func ask(t *testing.T, upstream, target string) (int, string) {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	var log strings.Builder
	h, err := scraper.NewHandler(scraper.Config{
		Upstream: upstream, Key: "secret-key", CX: "engine", Timeout: 500 * time.Millisecond,
		Transport: transport, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", target, nil)
	r.Header.Set("X-B3-Traceid", "463ac35c9f6413ad")
	h.ServeHTTP(w, r)
	if strings.Contains(w.Body.String()+log.String(), "secret-key") {
		t.Errorf("the key got out: %s\n%s", w.Body, log.String())
	}
	return w.Code, w.Body.String()
}

func TestSearch(t *testing.T) {
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Encode() + " " + r.Header.Get("X-B3-Traceid"); got != "alt=json&cx=engine&key=secret-key&q=a%26b 463ac35c9f6413ad" {
			t.Errorf("asked %s", got)
		}
		_, _ = io.WriteString(w, `{"kind":"x","items":[
			{"link":"https://a.example/","title":"A","snippet":"about a","pagemap":{"cse_thumbnail":[{"src":"https://a.example/t.png"}]}},
			{"link":"https://b.example/","title":"B","snippet":"about b"}]}`)
	}))
	defer engine.Close()
	status, body := ask(t, engine.URL+"/v1?alt=json", "/scrape/custom_search?term=a%26b")
	const want = `[{"link":"https://a.example/","thumbnail":[{"src":"https://a.example/t.png"}],"title":"A","snippet":"about a"},` +
		`{"link":"https://b.example/","title":"B","snippet":"about b"}]`
	if status != 200 || body != want {
		t.Errorf("got %d %s\nwant %s", status, body, want)
	}
}

func TestNothingFound(t *testing.T) {
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) }))
	defer engine.Close()
	if status, body := ask(t, engine.URL, "/scrape/custom_search"); status != 200 || body != `[]` {
		t.Errorf("got %d %s", status, body)
	}
}

// TestOops is each way in which the way out can fail.
func TestOops(t *testing.T) {
	server := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	reset := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	for _, tc := range []struct{ name, upstream, want string }{
		{"reset", server(reset), `"code":"ECONNRESET"`},
		{"refused", "http://127.0.0.1:1/", `"code":"ECONNREFUSED"`},
		{"unknown", "http://name.invalid/", `"code":"ENOTFOUND"`},
		{"slow", server(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), `"code":"ETIMEDOUT"`},
		{"forbidden", server(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }),
			`{"oops":{"name":"StatusCodeError","message":"the search engine answered 403","statusCode":403}}`},
		{"html", server(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }), `"oops":{"name":"RequestError","message":"Error: read the answer: invalid character`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, body := ask(t, tc.upstream, "/scrape/custom_search?term=x")
			if status != 500 || !strings.Contains(body, tc.want) {
				t.Errorf("got %d %s\nwant 500 with %s", status, body, tc.want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	if status, body := ask(t, "http://127.0.0.1:1", "/scrape/custom_search?term="+strings.Repeat("x", 1025)); status != 400 || body != `{"oops":"the term is longer than 1024 bytes"}` {
		t.Errorf("got %d %s", status, body)
	}
	if status, body := ask(t, "http://127.0.0.1:1", "/scrape"); status != 404 || body != `{"error":"hidden","oops":"Not Found"}` {
		t.Errorf("got %d %s", status, body)
	}
	_, err := scraper.NewHandler(scraper.Config{Upstream: "ftp://x"})
	if err == nil || err.Error() != `scraper: upstream "ftp://x" is not an http or https URL` {
		t.Errorf("got %v", err)
	}
}
