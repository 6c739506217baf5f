package ui

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"html/template"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed templates static
var files embed.FS

// page is what every template is given.
type page struct {
	Title string
	Nav   string // the entry of the navigation that is current
	User  user
	Alert *alert
	Body  any
}

// alert is a failure, in words for the visitor.
type alert struct{ Title, Text string }

// trouble is the alert for a service that failed.
func trouble(title string, err error) *alert {
	var f *fault
	if !errors.As(err, &f) {
		return &alert{title, err.Error()}
	}
	return &alert{title, fmt.Sprintf("The service “%s” cannot be used right now: %s. Reload the page to try again.", f.service, f.why())}
}

// statusOf is what the service answered, or 0.
func statusOf(err error) int {
	var f *fault
	if errors.As(err, &f) {
		return f.status
	}
	return 0
}

// views are the templates by name, each with the frame around it.
type views map[string]*template.Template

func loadViews() (views, error) {
	version, err := staticVersion()
	if err != nil {
		return nil, err
	}
	frame, err := template.New("frame.html").Funcs(template.FuncMap{
		"static":  func(name string) string { return "/static/" + name + "?v=" + version },
		"day":     func(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04 UTC") },
		"machine": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"initial": initial,
	}).ParseFS(files, "templates/frame.html", "templates/items.html")
	if err != nil {
		return nil, fmt.Errorf("ui: templates: %w", err)
	}
	all := views{}
	for _, name := range []string{"dashboard", "shared", "board", "profile", "search", "info"} {
		t, err := frame.Clone()
		if err == nil {
			t, err = t.ParseFS(files, "templates/"+name+".html")
		}
		if err != nil {
			return nil, fmt.Errorf("ui: template %s: %w", name, err)
		}
		all[name] = t
	}
	return all, nil
}

// initial is the first letter of a name, for the round picture beside it.
func initial(name string) string {
	for _, c := range strings.TrimSpace(name) {
		return strings.ToUpper(string(c))
	}
	return "?"
}

// render executes a template whole before it answers: a page is never half.
func (s *site) render(w http.ResponseWriter, status int, view string, p page) {
	var buf bytes.Buffer
	if err := s.views[view].ExecuteTemplate(&buf, "frame.html", p); err != nil {
		s.cfg.Log.Error("render failed", slog.String("view", view), slog.String("error", err.Error()))
		http.Error(w, "this page cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = buf.WriteTo(w) // a visitor who has gone is not our error
}

// staticVersion is a hash of the static files, so that browsers may keep them
// and still see the new ones.
func staticVersion() (string, error) {
	h := fnv.New64a()
	err := fs.WalkDir(files, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := files.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(h, f)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("ui: static files: %w", err)
	}
	return fmt.Sprintf("%x", h.Sum64()), nil
}

func serveStatic(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=86400")
	http.ServeFileFS(w, r, files, path.Join("static", path.Base("/"+r.PathValue("file"))))
}
