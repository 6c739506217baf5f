// Package ui is the web page of the shared-boards app: boards of a user, the
// board that everybody shares, a profile. It renders on the server and keeps
// nothing itself: everything comes from the boards and userprofile services.
// [NewHandler] is all of it.
package ui

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// Config is what the page needs.
type Config struct {
	// Boards and Profiles are the base URLs of the two services,
	// http://boards:8080 and http://userprofile:8080 if empty.
	Boards, Profiles string
	// FakeUser signs everybody in as the demo's user (FAKE_USER). Without it
	// everybody is anonymous.
	FakeUser bool
	// BoardsTimeout and ProfilesTimeout bound one call to a service, 10 s and
	// 30 s if zero: version 2 of userprofile takes 10 s on purpose.
	BoardsTimeout, ProfilesTimeout time.Duration
	Log                            *slog.Logger
}

// NewHandler serves the pages.
func NewHandler(cfg Config) (http.Handler, error) {
	boards, err := newBackend("boards", or(cfg.Boards, "http://boards:8080"), orDuration(cfg.BoardsTimeout, 10*time.Second))
	if err != nil {
		return nil, err
	}
	profiles, err := newBackend("userprofile", or(cfg.Profiles, "http://userprofile:8080"), orDuration(cfg.ProfilesTimeout, 30*time.Second))
	if err != nil {
		return nil, err
	}
	views, err := loadViews()
	if err != nil {
		return nil, err
	}
	s := &site{cfg: cfg, boards: boards, profiles: profiles, views: views}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.dashboard)
	mux.HandleFunc("POST /newboard", s.newBoard)
	mux.HandleFunc("GET /shared", s.shared)
	mux.HandleFunc("POST /shared/paste", s.sharedPaste)
	mux.HandleFunc("GET /{user}/board/{id}", s.board)
	mux.HandleFunc("POST /{user}/board/{id}/paste", s.boardPaste)
	mux.HandleFunc("GET /profile", s.ownProfile)
	mux.HandleFunc("GET /profile/{id}", s.profile)
	mux.HandleFunc("POST /search", s.search)
	mux.HandleFunc("GET /info", s.info)
	mux.HandleFunc("GET /login", s.login)
	mux.HandleFunc("GET /logout", s.logout)
	mux.HandleFunc("GET /static/{file}", serveStatic)
	mux.HandleFunc("/", s.notFound)
	// A form on another site may not post here in the name of our visitor.
	return secured(http.NewCrossOriginProtection().Handler(mux)), nil
}

type site struct {
	cfg      Config
	boards   *backend
	profiles *backend
	views    views
}

// secured sets the headers that keep a page to itself: nothing from elsewhere
// is loaded, no script but our own runs, nobody frames it.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "+
			"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

func or(v, otherwise string) string {
	if v == "" {
		return otherwise
	}
	return v
}

func orDuration(v, otherwise time.Duration) time.Duration {
	if v == 0 {
		return otherwise
	}
	return v
}

func parseBase(name, base string) (*url.URL, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("ui: address %q of %s is not an http or https URL", base, name)
	}
	return u, nil
}
