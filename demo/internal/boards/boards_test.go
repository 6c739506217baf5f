package boards_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sharedboards/internal/boards"
	"sharedboards/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startStore runs the real database on loopback until the test ends.
func startStore(t *testing.T) string {
	t.Helper()
	return startStoreAt(t, "127.0.0.1:0")
}

func startStoreAt(t *testing.T, addr string) string {
	t.Helper()
	srv, err := store.Open(store.Config{Addr: addr, Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return srv.Addr()
}

// api is a boards service over a store at addr, with a clock that stands at
// the lab's first item and moves three seconds on each call.
func api(t *testing.T, addr string) *client {
	t.Helper()
	st, err := boards.Connect(boards.StoreConfig{Addr: addr, Wait: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2020, 3, 2, 21, 8, 0, 0, time.UTC)
	srv := httptest.NewServer(boards.NewHandler(boards.HandlerConfig{
		Store: st,
		Log:   slog.New(slog.DiscardHandler),
		Now:   func() time.Time { now = now.Add(3 * time.Second); return now },
	}))
	c := &client{t: t, url: srv.URL, http: srv.Client()}
	c.close = sync.OnceFunc(func() {
		srv.Close()
		if err := st.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(c.close)
	return c
}

type client struct {
	t     *testing.T
	url   string
	http  *http.Client
	close func() // safe to call early
}

// do sends a request, JSON if there is a body, and returns status and body.
func (c *client) do(method, path, body string) (int, string) {
	c.t.Helper()
	req, err := http.NewRequest(method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// want does a request and checks both halves of the answer.
func (c *client) want(method, path, body string, status int, answer string) {
	c.t.Helper()
	gotStatus, got := c.do(method, path, body)
	if gotStatus != status || got != answer {
		c.t.Errorf("%s %s: %d %q, want %d %q", method, path, gotStatus, got, status, answer)
	}
}

// add posts a document and returns the short id of the answer.
func (c *client) add(path, body string) string {
	c.t.Helper()
	status, got := c.do("POST", path, body)
	id, ok := strings.CutPrefix(got, "Created ")
	if status != 201 || !ok || !regexp.MustCompile(`^[0-9A-Za-z]{8}$`).MatchString(id) {
		c.t.Fatalf("POST %s: %d %q", path, status, got)
	}
	return id
}

// TestLab is the body that the lab's document prints, byte for byte but for the
// ids: oldest first, two spaces, no line break at the end, 423 bytes.
func TestLab(t *testing.T) {
	c := api(t, startStore(t))
	c.want("GET", "/shareditems", "", 200, "[]")
	first := c.add("/shareditems", `{"owner":"anonymous","type":"string","raw":"something goes here","name":""}`)
	second := c.add("/shareditems", `{"owner":"anonymous","type":"string","raw":"another item","name":""}`)

	status, got := c.do("GET", "/shareditems", "")
	if status != 200 || len(got) != 423 {
		t.Errorf("status %d, %d bytes, want 200 and 423", status, len(got))
	}
	object := regexp.MustCompile(`"_id": "[0-9a-f]{24}"`)
	const want = `[
  {
    "_id": OBJECT,
    "owner": "anonymous",
    "type": "string",
    "raw": "something goes here",
    "name": "",
    "id": "FIRST",
    "created_at": "2020-03-02T21:08:03+00:00"
  },
  {
    "_id": OBJECT,
    "owner": "anonymous",
    "type": "string",
    "raw": "another item",
    "name": "",
    "id": "SECOND",
    "created_at": "2020-03-02T21:08:06+00:00"
  }
]`
	got = object.ReplaceAllString(got, `"_id": OBJECT`)
	if want := strings.NewReplacer("FIRST", first, "SECOND", second).Replace(want); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestItems(t *testing.T) {
	c := api(t, startStore(t))
	id := c.add("/sarah/items", `{"type":"string","raw":"<no> & fate\u0000","owner":"somebody else","_id":7}`)
	c.want("GET", "/kyle/items", "", 200, "[]")
	c.want("GET", "/kyle/items/"+id, "", 404, "Not Found")

	_, got := c.do("GET", "/sarah/items/"+id, "")
	for _, part := range []string{`"owner": "sarah"`, `"raw": "<no> & fate\u0000"`, `"id": "` + id + `"`} {
		if !strings.Contains(got, part) {
			t.Errorf("item lacks %s:\n%s", part, got)
		}
	}
	c.want("PUT", "/sarah/items/"+id, `{"type":"string","raw":"but what we make"}`, 202, "Updated "+id)
	if _, got := c.do("GET", "/sarah/items", ""); !strings.Contains(got, `"raw": "but what we make"`) {
		t.Errorf("item was not updated:\n%s", got)
	}
	c.want("PUT", "/sarah/items/nothing1", `{}`, 404, "Not Found")
	c.want("DELETE", "/kyle/items/"+id, "", 204, "")
	c.want("PUT", "/sarah/items/"+id, `{}`, 202, "Updated "+id) // kyle's delete left it alone
	c.want("DELETE", "/sarah/items/"+id, "", 204, "")
	c.want("DELETE", "/sarah/items/"+id, "", 204, "")
	c.want("GET", "/sarah/items/"+id, "", 404, "Not Found")
}

func TestBoards(t *testing.T) {
	c := api(t, startStore(t))
	id := c.add("/sarah/boards", `{"name":"Quotes","description":"good ones","private":true}`)
	want := `{
  "_id": OBJECT,
  "name": "Quotes",
  "description": "good ones",
  "private": true,
  "items": [],
  "id": "` + id + `",
  "created_at": "2020-03-02T21:08:03+00:00",
  "owner": "sarah"
}`
	_, got := c.do("GET", "/sarah/boards/"+id, "")
	got = regexp.MustCompile(`"_id": "[0-9a-f]{24}"`).ReplaceAllString(got, `"_id": OBJECT`)
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// What was read can be sent back, as the original's page does it.
	c.want("PUT", "/sarah/boards/"+id, strings.Replace(strings.Replace(want, "OBJECT", `"x"`, 1), "[]", `["abc"]`, 1), 202, "Updated "+id)
	if _, got := c.do("GET", "/sarah/boards", ""); !strings.Contains(got, "\"items\": [\n      \"abc\"\n    ]") {
		t.Errorf("board was not updated:\n%s", got)
	}
	c.want("PUT", "/sarah/boards/nothing1", `{}`, 404, "Not Found")
	c.want("DELETE", "/sarah/boards/"+id, "", 204, "")
	c.want("GET", "/sarah/boards", "", 200, "[]")
}

func TestRefused(t *testing.T) {
	c := api(t, startStore(t))
	for _, tc := range []struct {
		path, body string
		status     int
		answer     string
	}{
		{"/shareditems", `[]`, 400, "the body is not a JSON object"},
		{"/shareditems", `{"raw":`, 400, "the body is not the JSON we expect: unexpected end of JSON input"},
		{"/shareditems", `{"raw":1}`, 400, "the body is not the JSON we expect: json: cannot unmarshal number into Go struct field itemRequest.raw of type string"},
		{"/shareditems", `{"raw":"` + strings.Repeat("x", 64<<10) + `"}`, 413, "the body is larger than 65536 bytes"},
		{"/shareditems", ``, 415, "the body must be application/json"},
		{"/a%00b/items", `{}`, 400, "the user in the path has a character that does not print"},
		{"/a%ffb/items", `{}`, 400, "the user in the path is not UTF-8"},
		{"/" + strings.Repeat("a", 129) + "/items", `{}`, 400, "the user in the path is longer than 128 bytes"},
	} {
		c.want("POST", tc.path, tc.body, tc.status, tc.answer)
	}
	c.want("GET", "/sarah/items/"+strings.Repeat("a", 129), "", 400, "the id in the path is longer than 128 bytes")
	c.want("GET", "/nothing", "", 404, "404 page not found\n")
}

func TestBroken(t *testing.T) {
	w := httptest.NewRecorder()
	boards.NewHandler(boards.HandlerConfig{Broken: true}).ServeHTTP(w, httptest.NewRequest("GET", "/shareditems", nil))
	if w.Code != 503 || w.Body.String() != "Service Unavailable" {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
}

// TestStoreAway starts the service before its store: requests fail with 500
// until the store comes, without a restart.
func TestStoreAway(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	c := api(t, addr)
	c.want("GET", "/shareditems", "", 500, "Internal Server Error")

	startStoreAt(t, addr)
	c.add("/shareditems", `{"raw":"here again"}`)
	c.close() // before the store, which would wait three seconds for its client
}

// TestConnectionsCut resets every connection to the store between requests, as
// a mesh does whose policy has changed: no request may fail.
func TestConnectionsCut(t *testing.T) {
	relay := startRelay(t, startStore(t))
	c := api(t, relay.addr)
	c.add("/shareditems", `{"raw":"before"}`)
	relay.cut()
	c.add("/shareditems", `{"raw":"after a cut"}`)
	relay.cut()
	if status, got := c.do("GET", "/shareditems", ""); status != 200 || strings.Count(got, `"raw"`) != 2 {
		t.Errorf("list after a cut: %d, want 2 items, none lost and none twice:\n%s", status, got)
	}
}
