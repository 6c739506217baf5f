package ui_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"sharedboards/internal/boards"
	"sharedboards/internal/store"
	"sharedboards/internal/ui"
	"sharedboards/internal/userprofile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet is a log for tests.
var quiet = slog.New(slog.DiscardHandler)

// startApp runs the whole app: the page, boards, its database, userprofile.
func startApp(t *testing.T) *browser {
	t.Helper()
	db, err := store.Open(store.Config{Addr: "127.0.0.1:0", Dir: t.TempDir(), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- db.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	st, err := boards.Connect(boards.StoreConfig{Addr: db.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close(context.Background()) })
	profiles, err := userprofile.OpenSQLite(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { profiles.Close() })
	return open(t, ui.Config{
		Boards:   serve(t, boards.NewHandler(boards.HandlerConfig{Store: st, Log: quiet})),
		Profiles: serve(t, userprofile.NewHandler(userprofile.HandlerConfig{Store: profiles, Log: quiet, StyleID: "2"})),
		FakeUser: true,
	})
}

// serve runs a handler until the test ends and returns its URL.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// open runs the page and looks at it.
func open(t *testing.T, cfg ui.Config) *browser {
	t.Helper()
	cfg.Log = quiet
	h, err := ui.NewHandler(cfg)
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Transport: &http.Transport{}}
	b := &browser{t: t, base: serve(t, h), client: client}
	t.Cleanup(client.CloseIdleConnections)
	return b
}

// browser asks for pages, follows redirects, and checks of every page what
// must hold for all of them.
type browser struct {
	t      *testing.T
	base   string
	client *http.Client
}

// seen is a page that was looked at.
type seen struct {
	status int
	path   string // where the redirects ended
	html   string
	text   string // what a reader sees, on one line
}

func (b *browser) get(path string) seen {
	b.t.Helper()
	req, err := http.NewRequest("GET", b.base+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(req)
}

// post sends a form: names and values in turn.
func (b *browser) post(path string, fields ...string) seen {
	b.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	req, err := http.NewRequest("POST", b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(req)
}

func (b *browser) do(req *http.Request) seen {
	b.t.Helper()
	res, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	s := seen{status: res.StatusCode, path: res.Request.URL.EscapedPath(), html: string(body)}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		s.text = checkPage(b.t, req.URL.Path, s.html)
	}
	return s
}

// want checks a page's status, and that a reader sees the words.
func (s seen) want(t *testing.T, status int, words ...string) {
	t.Helper()
	if s.status != status {
		t.Errorf("%s: status %d, want %d", s.path, s.status, status)
	}
	for _, w := range words {
		if !strings.Contains(s.text, w) {
			t.Errorf("%s: no %q in\n%s", s.path, w, s.text)
		}
	}
}

func TestSharedBoard(t *testing.T) {
	b := startApp(t)
	b.get("/shared").want(t, 200, "Shared board", "Nothing here yet")
	got := b.post("/shared/paste", "pastedata", "something goes here")
	got.want(t, 200, "anonymous", "something goes here")
	if got.path != "/shared" {
		t.Errorf("after the paste: at %s", got.path)
	}
	got = b.post("/shared/paste", "pastedata", "<script>alert(1)</script>\r\n  & more")
	got.want(t, 200, "<script>alert(1)</script> & more")
	if !strings.Contains(got.html, "&lt;script&gt;alert(1)&lt;/script&gt;\n  &amp; more</pre>") {
		t.Errorf("the item is not shown as it was pasted:\n%s", got.html)
	}
	if strings.Index(got.text, "alert(1)") > strings.Index(got.text, "something goes here") {
		t.Errorf("the newest item is not the first:\n%s", got.text)
	}
	got = b.post("/shared/paste", "pastedata", "https://example.org/?a=1&b=2")
	if !strings.Contains(got.html, `<a href="https://example.org/?a=1&amp;b=2" rel="noopener noreferrer nofollow">`) {
		t.Errorf("an address is no link:\n%s", got.html)
	}
	b.post("/shared/paste", "pastedata", "javascript:alert(1)")
	if got := b.get("/shared"); strings.Contains(got.html, `href="javascript`) {
		t.Errorf("a script became a link:\n%s", got.html)
	}
	b.post("/shared/paste", "pastedata", " \r\n").want(t, 400, "Nothing was added. Paste or type a text first.")
	b.post("/shared/paste", "pastedata", strings.Repeat("x", 32<<10+1)).want(t, 400, "Nothing was added. The text is too long: 32769 bytes, and 32768 are allowed.")
	b.post("/shared/paste", "pastedata", strings.Repeat("x", 64<<10)).want(t, 400, "Nothing was added. That is more than 64 KiB, which is too much for one go.")
}

func TestBoards(t *testing.T) {
	b := startApp(t)
	b.get("/").want(t, 200, "Your boards", "No boards yet", "Sarah", "Log out")
	b.post("/newboard", "newboardname", "Quotes & more", "newboarddesc", "good ones", "newboardprivate", "on").
		want(t, 200, "Quotes & more", "good ones", "Nothing on it yet · private")
	b.post("/newboard", "newboardname", "  ", "newboarddesc", "kept").want(t, 400, "The board was not made. A board needs a name.", "kept")

	list := b.get("/")
	_, rest, _ := strings.Cut(list.html, `href="/anonymous/board/`)
	id, _, _ := strings.Cut(rest, `"`)
	path := "/anonymous/board/" + id
	b.get(path).want(t, 200, "Quotes & more private", "Nothing on this board yet")
	b.post(path+"/paste", "pastedata", "No fate.").want(t, 200, "No fate.")
	got := b.post(path+"/paste", "pastedata", "Come with me.")
	got.want(t, 200, "Come with me.", "No fate.")
	if got.path != path {
		t.Errorf("after the paste: at %s", got.path)
	}
	b.get("/").want(t, 200, "2 items")
	b.post(path+"/paste", "pastedata", "").want(t, 400, "Nothing was added. Paste or type a text first.", "No fate.")

	b.get("/anonymous/board/nothing1").want(t, 404, "There is no such board")
	b.post("/anonymous/board/nothing1/paste", "pastedata", "x").want(t, 404, "There is no such board")
	b.get("/anonymous/board/a%00").want(t, 404, "There is no such board")

	b.post("/search", "term", "FATE").want(t, 200, "One thing was found for “FATE”.", "On your boards", "No fate.")
	b.post("/search", "term", "quotes").want(t, 200, "One thing was found", "Quotes & more")
	b.post("/search", "term", "skynet").want(t, 200, "Nothing was found for “skynet”.")
	if got := b.post("/search", "term", " "); got.path != "/" {
		t.Errorf("an empty search ends at %s", got.path)
	}
}

func TestProfile(t *testing.T) {
	b := startApp(t)
	got := b.get("/profile")
	got.want(t, 200, "Sarah Connor", "There is no fate but what we make for ourselves.", "sarahc@skynet.com")
	if !strings.Contains(got.html, `class="profile style2"`) {
		t.Error("the page does not wear the style of userprofile's version")
	}
	b.get("/profile/575ddb6a-8d2f-4baf-9e7e-4d0184d69259").want(t, 200, "Sarah Connor")
	b.get("/profile/nobody").want(t, 404, "Unknown User", "This profile doesn't exist or at least we couldn't find it.")
	b.get("/profile/a%ff").want(t, 404, "Unknown User")
}

func TestOtherPages(t *testing.T) {
	b := startApp(t)
	b.get("/info").want(t, 200, "What is behind this page", "boards-mongodb")
	b.get("/info?infoMessage=%3Cb%3E&infoDetails=words").want(t, 200, "<b>", "words")
	b.get("/logout").want(t, 200, "Can’t log out the fake user")
	b.get("/nowhere").want(t, 404, "Page not found")
	if got := b.get("/login"); got.path != "/" {
		t.Errorf("who is signed in and logs in ends at %s", got.path)
	}
	for path, want := range map[string]int{"/static/style.css": 200, "/static/copy.js": 200, "/static/icon.svg": 200, "/static/none": 404, "/static/": 404} {
		if got := b.get(path); got.status != want {
			t.Errorf("%s: %d, want %d", path, got.status, want)
		}
	}
}
