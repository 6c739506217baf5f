package userprofile_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sharedboards/internal/userprofile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stores runs a test on both databases.
func stores(t *testing.T, test func(*testing.T, *userprofile.Store)) {
	t.Run("sqlite", func(t *testing.T) {
		s, err := userprofile.OpenSQLite(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		test(t, s)
	})
	t.Run("postgres", func(t *testing.T) {
		s, err := userprofile.OpenPostgres(startPostgres(t))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		test(t, s)
	})
}

// client calls a handler; its clock stands still.
type client struct {
	t *testing.T
	h http.Handler
}

func api(t *testing.T, s *userprofile.Store) client {
	return client{t, userprofile.NewHandler(userprofile.HandlerConfig{
		Store: s, StyleID: "3", Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Date(2019, 4, 12, 11, 43, 24, 201e6, time.UTC) },
	})}
}

func (c client) do(method, path, kind string, body io.Reader) *httptest.ResponseRecorder {
	c.t.Helper()
	r := httptest.NewRequest(method, path, body)
	r.Header.Set("Content-Type", kind)
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	return w
}

func (c client) want(method, path, body string, status int, answer string) {
	c.t.Helper()
	w := c.do(method, path, "application/json", strings.NewReader(body))
	if w.Code != status || w.Body.String() != answer {
		c.t.Errorf("%s %s: %d %q, want %d %q", method, path, w.Code, w.Body, status, answer)
	}
}

const kyle = `{"id":"kyle","firstName":"Kyle","lastName":"Reese","emailAddress":"kyle@resistance.example"}`

func TestProfiles(t *testing.T) {
	stores(t, func(t *testing.T, s *userprofile.Store) {
		c := api(t, s)
		c.want("GET", "/users", "", 200, `[]`)
		c.want("POST", "/users", kyle, 201, "")
		c.want("POST", "/users", kyle, 400, "this id is taken\n")
		const at = `"createdAt":"2019-04-12T11:43:24.201Z[UTC]"`
		c.want("GET", "/users/kyle", "", 200, `{"id":"kyle","firstName":"Kyle","lastName":"Reese","emailAddress":"kyle@resistance.example",`+at+`}`)

		c.want("PUT", "/users/kyle", `{"id":"kyle","firstName":"Kyle","lastName":"<Reese>","aboutMe":"Come with me.",`+
			`"emailAddress":"kyle@resistance.example","createdAt":1,"styleId":"2"}`, 204, "")
		c.want("GET", "/users", "", 200, `[{"id":"kyle","firstName":"Kyle","lastName":"<Reese>","aboutMe":"Come with me.",`+
			`"emailAddress":"kyle@resistance.example",`+at+`,"styleId":"2"}]`)

		c.want("PUT", "/users/john", kyle, 400, "the id in the body is not the id in the path\n")
		c.want("PUT", "/users/john", strings.ReplaceAll(kyle, `"kyle"`, `"john"`), 400, "there is no user with this id\n")
		c.want("GET", "/users/john", "", 404, "")
	})
}

func TestMagicUser(t *testing.T) {
	s, err := userprofile.OpenSQLite(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	api(t, s).want("GET", "/users/575ddb6a-8d2f-4baf-9e7e-4d0184d69259", "", 200,
		`{"id":"575ddb6a-8d2f-4baf-9e7e-4d0184d69259","firstName":"Sarah","lastName":"Connor",`+
			`"aboutMe":"There is no fate but what we make for ourselves.","emailAddress":"sarahc@skynet.com",`+
			`"createdAt":"2019-04-12T11:43:24.201Z[UTC]","styleId":"3"}`)
}

// form is a multipart body with one file in it.
func form(t *testing.T, part, file string, content []byte) (kind string, body *bytes.Buffer) {
	t.Helper()
	body = new(bytes.Buffer)
	w := multipart.NewWriter(body)
	p, err := w.CreateFormFile(part, file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), body
}

func TestPhoto(t *testing.T) {
	stores(t, func(t *testing.T, s *userprofile.Store) {
		c := api(t, s)
		c.want("POST", "/users", kyle, 201, "")
		c.want("GET", "/users/kyle/photo", "", 404, "")
		for _, photo := range []struct {
			file, disposition string
			content           []byte
		}{
			{"first.png", "image; filename=first.png", []byte("\x89PNG\x00\xff")},
			{`..\..\etc/.passwd`, "image; filename=passwd", bytes.Repeat([]byte{0, 1, 254}, 100_000)},
		} {
			kind, body := form(t, "image", photo.file, photo.content)
			if w := c.do("POST", "/users/kyle/photo", kind, body); w.Code != 200 {
				t.Fatalf("upload: %d %s", w.Code, w.Body)
			}
			w := c.do("GET", "/users/kyle/photo", "", nil)
			if w.Code != 200 || !bytes.Equal(w.Body.Bytes(), photo.content) {
				t.Errorf("download: %d, %d bytes, want %d", w.Code, w.Body.Len(), len(photo.content))
			}
			if got := w.Header().Get("Content-Type") + " " + w.Header().Get("Content-Disposition"); got != "application/octet-stream "+photo.disposition {
				t.Errorf("download comes as %q, want %q", got, photo.disposition)
			}
		}
		kind, body := form(t, "image", "a.png", []byte("x"))
		if w := c.do("POST", "/users/john/photo", kind, body); w.Code != 400 || w.Body.String() != "there is no user with this id\n" {
			t.Errorf("photo of nobody: %d %q", w.Code, w.Body)
		}
	})
}

func TestRefused(t *testing.T) {
	s, err := userprofile.OpenSQLite(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := api(t, s)
	for body, want := range map[string]string{
		``: "the body is not the JSON we expect: unexpected end of JSON input\n",
		strings.Replace(kyle, `"id":"kyle"`, `"id":" "`, 1):                          "id cannot be blank\n",
		strings.Replace(kyle, `Kyle`, ``, 1):                                         "first name cannot be blank\n",
		strings.Replace(kyle, `Reese`, strings.Repeat("x", 256), 1):                  "last name is longer than 255 bytes\n",
		strings.Replace(kyle, `Reese`, `R\u0000`, 1):                                 "last name has a zero byte\n",
		strings.Replace(kyle, `kyle@resistance.example`, `Kyle <kyle@a.example>`, 1): "email address should be valid\n",
		strings.Replace(kyle, `kyle@resistance.example`, `nowhere`, 1):               "email address should be valid\n",
	} {
		c.want("POST", "/users", body, 400, want)
	}
	c.want("POST", "/users", strings.Repeat(" ", 64<<10+1), 413, "the body is larger than 65536 bytes\n")
	c.want("GET", "/users/a%00", "", 400, "the id in the path has a character that does not print\n")

	if w := c.do("POST", "/users", "text/plain", strings.NewReader(kyle)); w.Code != 415 {
		t.Errorf("profile as text: %d", w.Code)
	}
	if w := c.do("POST", "/users/kyle/photo", "text/plain", strings.NewReader("x")); w.Code != 415 {
		t.Errorf("photo as text: %d", w.Code)
	}
	kind, body := form(t, "picture", "a.png", []byte("x"))
	if w := c.do("POST", "/users/kyle/photo", kind, body); w.Code != 400 || w.Body.String() != "the form has no part \"image\"\n" {
		t.Errorf("form without an image: %d %q", w.Code, w.Body)
	}
	kind, body = form(t, "image", "a.png", make([]byte, 5<<20))
	if w := c.do("POST", "/users/kyle/photo", kind, body); w.Code != 413 {
		t.Errorf("photo of 5 MiB: %d %q", w.Code, w.Body)
	}
}

// TestStoreAway asks a service whose PostgreSQL is not there.
func TestStoreAway(t *testing.T) {
	s, err := userprofile.OpenPostgres("postgres://sarah:connor@127.0.0.1:1/x?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := api(t, s)
	c.want("GET", "/users/kyle", "", 500, "the store of the profiles cannot be used right now\n")
	if w := c.do("GET", "/users/"+userprofile.MagicID, "", nil); w.Code != 200 {
		t.Errorf("the magic user needs no store, got %d", w.Code)
	}
	if _, err := userprofile.OpenPostgres("postgres://sarah:connor@h:port/x"); err == nil || strings.Contains(err.Error(), "connor") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

// TestReopen finds the profiles again after a restart.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	for i, status := range []int{404, 200} {
		s, err := userprofile.OpenSQLite(dir)
		if err != nil {
			t.Fatal(err)
		}
		c := api(t, s)
		if w := c.do("GET", "/users/kyle", "", nil); w.Code != status {
			t.Errorf("start %d: %d, want %d", i, w.Code, status)
		}
		c.do("POST", "/users", "application/json", strings.NewReader(kyle))
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDelay is version 2: ten seconds before every answer, unless the client
// goes away first.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := userprofile.NewHandler(userprofile.HandlerConfig{Delay: 10 * time.Second, Log: slog.New(slog.DiscardHandler)})
		r := httptest.NewRequest("GET", "/users/"+userprofile.MagicID, nil)
		start := time.Now()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if took := time.Since(start); w.Code != 200 || took != 10*time.Second {
			t.Errorf("%d after %v", w.Code, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		h.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
		if took := time.Since(start); took != time.Second {
			t.Errorf("kept a client that had gone for %v", took)
		}
	})
}
