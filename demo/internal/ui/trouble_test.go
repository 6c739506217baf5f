package ui_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sharedboards/internal/ui"
)

// reset is a service whose connections are cut without an answer, as a mesh in
// STRICT does it to a caller in plaintext.
func reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

// TestTrouble is every page while the services fail in one of the ways they can:
// each page is whole and says in words what is wrong.
func TestTrouble(t *testing.T) {
	slow := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then a server notices that the client has gone
		<-r.Context().Done()
	}
	for _, tc := range []struct {
		name, url, why string
	}{
		{"refused", "http://127.0.0.1:1", "the connection was refused"},
		{"unknown", "http://name.invalid", "its name is not known"},
		{"reset", serve(t, http.HandlerFunc(reset)), "the connection was reset"},
		{"slow", serve(t, http.HandlerFunc(slow)), "it did not answer in time"},
		{"broken", serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })), "it answered 503 Service Unavailable"},
		{"senseless", serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })), "its answer makes no sense"},
		{"elsewhere", serve(t, http.RedirectHandler("/", 302)), "it answered 302 Found"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := open(t, ui.Config{Boards: tc.url, Profiles: tc.url, FakeUser: true,
				BoardsTimeout: 200 * time.Millisecond, ProfilesTimeout: 200 * time.Millisecond})
			boards := "The service “boards” cannot be used right now: " + tc.why + "."
			b.get("/").want(t, 503, "Your boards cannot be shown. "+boards)
			b.get("/shared").want(t, 503, "The shared board cannot be shown. "+boards)
			b.get("/anonymous/board/abc").want(t, 503, "This board cannot be shown. "+boards)
			b.post("/newboard", "newboardname", "Quotes").want(t, 503, "The board was not made. ")
			b.post("/shared/paste", "pastedata", "not lost").want(t, 503, "Nothing was added. "+boards, "not lost")
			b.post("/anonymous/board/abc/paste", "pastedata", "not lost").want(t, 503, "Nothing was added. "+boards, "not lost")
			b.post("/search", "term", "x").want(t, 503, "Not everything could be searched. "+boards)
			b.get("/profile").want(t, 503, "Unknown User", "The profile cannot be shown. The service “userprofile” cannot be used right now: "+tc.why+".")
			b.get("/info").want(t, 200)
		})
	}
}

// TestItemsOfABoard is a board of which one item is gone, and one whose items
// fail.
func TestItemsOfABoard(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /anonymous/boards/{id}", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"id": r.PathValue("id"), "name": "B", "items": []string{"here", "gone", r.PathValue("id")}})
	})
	mux.HandleFunc("GET /anonymous/items/here", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"id":"here","raw":"still here"}`)
	})
	mux.HandleFunc("GET /anonymous/items/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	b := open(t, ui.Config{Boards: serve(t, mux)})
	b.get("/anonymous/board/gone2").want(t, 200, "still here", "An item was here that is gone now.")
	b.get("/anonymous/board/broken").want(t, 503, "This board cannot be shown. The service “boards” cannot be used right now: it answered 500 Internal Server Error.")
}

// TestNobodySignedIn is the page without FAKE_USER.
func TestNobodySignedIn(t *testing.T) {
	b := open(t, ui.Config{Boards: serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a := r.Header.Get("Authorization"); a != "" {
			t.Errorf("nobody is signed in, yet the token is %q", a)
		}
		_, _ = io.WriteString(w, "[]")
	}))})
	b.get("/").want(t, 200, "Public boards", "Log in")
	b.get("/login").want(t, 200, "There is nowhere to log in")
	b.get("/profile").want(t, 200, "Unknown User", "Nobody is signed in, so there is no profile to show.")
	if got := b.get("/logout"); got.path != "/" {
		t.Errorf("logout ends at %s", got.path)
	}
}

// TestHeaders checks what goes to a service in the name of a visitor.
func TestHeaders(t *testing.T) {
	got := make(chan http.Header, 1)
	b := open(t, ui.Config{FakeUser: true, Boards: serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header
		_, _ = io.WriteString(w, "[]")
	}))})
	req, err := http.NewRequest("GET", b.base+"/shared", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Tracestate": "a=b",
		"B3": "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1", "X-B3-Traceid": "463ac35c9f6413ad",
		"X-Request-Id": "7", "X-Ot-Span-Context": "ctx", "User-Agent": "a browser",
	}
	for k, v := range want {
		req.Header.Set(k, v)
	}
	req.Header.Set("Cookie", "private=1")
	b.do(req).want(t, 200)
	h := <-got
	want["Authorization"] = "Bearer XXXXXXXXX"
	want["Cookie"] = ""
	for k, v := range want {
		if h.Get(k) != v {
			t.Errorf("%s: %q, want %q", k, h.Get(k), v)
		}
	}
}

// TestOtherSites is a form that another site sends in a visitor's name.
func TestOtherSites(t *testing.T) {
	b := open(t, ui.Config{Boards: "http://127.0.0.1:1"})
	req, err := http.NewRequest("POST", b.base+"/shared/paste", strings.NewReader("pastedata=x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	if got := b.do(req); got.status != 403 {
		t.Errorf("got %d, want 403", got.status)
	}
}

func TestBadAddress(t *testing.T) {
	_, err := ui.NewHandler(ui.Config{Boards: "boards:8080"})
	if err == nil || err.Error() != `ui: address "boards:8080" of boards is not an http or https URL` {
		t.Errorf("got %v", err)
	}
}
