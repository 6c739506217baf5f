package dashboard_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hasp/dashboard"
	"hasp/test/dashboard/fake"
)

// plane serves the views of a mesh as a control plane does. News is told on a
// channel.
func plane(m *fake.Mesh, news <-chan string) http.Handler {
	mux := http.NewServeMux()
	serve := func(pattern string, of func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Hasp-Version", "4")
			v, err := of(r)
			switch {
			case errors.Is(err, dashboard.ErrUnknown):
				http.Error(w, "no connection of that name", http.StatusNotFound)
			case err != nil:
				http.Error(w, err.Error(), http.StatusBadRequest)
			default:
				json.NewEncoder(w).Encode(v)
			}
		})
	}
	serve("GET /status", func(r *http.Request) (any, error) { return m.Status(r.Context()) })
	serve("GET /facts", func(r *http.Request) (any, error) { return m.Facts(r.Context()) })
	serve("GET /connections", func(r *http.Request) (any, error) { return m.Links(r.Context(), r.FormValue("workload")) })
	serve("GET /plaintext", func(r *http.Request) (any, error) { return m.Plaintext(r.Context()) })
	serve("GET /timeline", func(r *http.Request) (any, error) { return m.Timeline(r.Context()) })
	serve("GET /why", func(r *http.Request) (any, error) { return m.Why(r.Context(), r.FormValue("id")) })
	serve("GET /graph", func(r *http.Request) (any, error) {
		d, err := time.ParseDuration(r.FormValue("window"))
		if err != nil {
			return nil, err
		}
		return m.Graph(r.Context(), d)
	})
	serve("POST /what-if", func(r *http.Request) (any, error) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if r.FormValue("namespace") != "shop" {
			return nil, errors.New("no namespace")
		}
		return m.WhatIf(r.Context(), b)
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		for {
			select {
			case text, more := <-news:
				if !more {
					return
				}
				io.WriteString(w, text)
				http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	return mux
}

// ages of things, which grow from one answer to the next.
var ages = regexp.MustCompile(`>[^<]*</time>`)

// TestRemote: every page is the same over HTTP.
func TestRemote(t *testing.T) {
	m := fake.Shop()
	srv := httptest.NewServer(plane(m, nil))
	defer srv.Close()
	far := &dashboard.Remote{Client: srv.Client(), Base: srv.URL, Name: "the mesh in /x", Namespace: "shop"}
	near, over := serve(t, m), httptest.NewServer(dashboard.Handler(far))
	defer over.Close()
	for _, path := range []string{"/", "/?window=all", "/edge?from=shop%2Fweb&to=shop%2Fboards&port=8080", "/workload/shop/boards", "/plaintext", "/timeline", "/status", "/why/5ca1ab1e00000000", "/api/facts", "/api/status"} {
		_, a := get(t, near+path)
		_, b := get(t, over.URL+path)
		a, b = ages.ReplaceAllString(a, ">"), ages.ReplaceAllString(b, ">")
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("%s (-near +far):\n%s", path, diff)
		}
	}
	ctx := t.Context()
	if _, err := far.Why(ctx, "0000000000000000"); !errors.Is(err, dashboard.ErrUnknown) || err.Error() != "no connection of that name" {
		t.Errorf("an unknown connection: %v", err)
	}
	var invalid *dashboard.Invalid
	if _, err := far.WhatIf(ctx, []byte("x")); !errors.As(err, &invalid) || invalid.Reason != "line 1: no kind" {
		t.Errorf("no manifests: %v", err)
	}
	if a, err := far.WhatIf(ctx, []byte("kind: X\nmode: STRICT")); err != nil || !a.Hurt() {
		t.Errorf("STRICT: %v %v", a, err)
	}
}

func TestRemoteAway(t *testing.T) {
	old := httptest.NewServer(http.NotFoundHandler())
	r := &dashboard.Remote{Client: old.Client(), Base: old.URL, Name: "the mesh in /x"}
	if _, err := r.Facts(t.Context()); err == nil || err.Error() != "the mesh in /x is of a version that has no /facts: hasp down and hasp up, on a cluster hasp install, bring this one's" {
		t.Errorf("an old one: %v", err)
	}
	old.Close()
	if _, err := r.Facts(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "ask the mesh in /x: ") || strings.Contains(err.Error(), "http://") {
		t.Errorf("one that is away: %v", err)
	}
}

// TestFollow: what was told is told, if only once for all, until the stream ends;
// a heartbeat is no news.
func TestFollow(t *testing.T) {
	for _, c := range []struct {
		stream      string
		least, most int
	}{
		{strings.Repeat(": still here\n\n", 3), 0, 0},
		{": still here\n\n" + strings.Repeat("event: facts\ndata: 1\n\n", 3), 1, 3},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, c.stream) }))
		events, err := (&dashboard.Remote{Client: srv.Client(), Base: srv.URL}).Events(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for range events {
			n++
		}
		if n < c.least || n > c.most {
			t.Errorf("told %d times of %q", n, c.stream)
		}
		srv.Close()
	}
}

// TestNews: what the control plane tells wakes whoever waits, and so does its
// going away.
func TestNews(t *testing.T) {
	news := make(chan string)
	srv := httptest.NewServer(plane(fake.Shop(), news))
	defer srv.Close()
	r := &dashboard.Remote{Client: srv.Client(), Base: srv.URL}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(ctx) }()

	changed := r.Changed()
	news <- "event: facts\ndata: 5\n\n"
	<-changed
	changed = r.Changed()
	close(news)
	<-changed
	stop()
	<-ended
}

// TestEvents: an open page is told at once, and again when something changes;
// one page too many is turned away.
func TestEvents(t *testing.T) {
	m := fake.Shop()
	base := serve(t, m)
	open := func() *http.Response {
		resp, err := http.Get(base + "/events")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	first := open()
	b := make([]byte, 64)
	for _, want := range []string{"event: facts\ndata: 1\n\n", "event: facts\ndata: 2\n\n"} {
		n, err := first.Body.Read(b)
		if err != nil || string(b[:n]) != want {
			t.Fatalf("%q %v, want %q", b[:n], err, want)
		}
		m.Change(func(*fake.Mesh) {})
	}
	for range 63 {
		if resp := open(); resp.StatusCode != http.StatusOK {
			t.Fatalf("a page is turned away: %s", resp.Status)
		}
	}
	if resp := open(); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the 65th page: %s", resp.Status)
	}
}
