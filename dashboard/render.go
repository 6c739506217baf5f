package dashboard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"hasp/truth"
)

//go:embed assets
var assets embed.FS

//go:embed pages
var pagesFS embed.FS

// assetsVersion is in the assets' addresses, so that a browser keeps no old one.
var assetsVersion = sync.OnceValue(func() string {
	h := sha256.New()
	names, _ := fs.Glob(assets, "assets/*")
	for _, name := range names {
		b, _ := fs.ReadFile(assets, name)
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)[:4])
})

func asset(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=31536000, immutable")
	http.ServeFileFS(w, r, assets, "assets/"+r.PathValue("name"))
}

// templates by page: the frame with one page in it. The program that serves them
// is also the one of every other command, which does not pay for them.
var templates = sync.OnceValue(func() map[string]*template.Template {
	frame := template.Must(template.New("").Funcs(funcs).ParseFS(pagesFS, "pages/frame.html", "pages/parts.html"))
	pages := map[string]*template.Template{}
	for _, name := range []string{"home", "edge", "node", "plaintext", "whatif", "timeline", "why", "status", "error"} {
		pages[name] = template.Must(template.Must(frame.Clone()).ParseFS(pagesFS, "pages/"+name+".html"))
	}
	return pages
})

// view is what the frame shows around a page.
type view struct {
	Title string
	Nav   string // the page's place in the navigation
	// Live pages are kept up to date; the masthead of the others too.
	Live       bool
	Generation uint64
	Lock       string
	Share      float64
	// Unknown says why the masthead has no lock.
	Unknown string
	Now     time.Time
	Body    any
}

// show renders a page whole before anything is sent.
func (s *site) show(w http.ResponseWriter, page string, status int, v view) {
	v.Now = time.Now()
	var b bytes.Buffer
	if err := templates()[page].ExecuteTemplate(&b, "frame", v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// fail is a page that says what went wrong and how to go on.
func (s *site) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.show(w, "error", statusOf(err), s.frame(r.Context(), view{Title: "No answer", Body: err.Error()}))
}

func (s *site) notFound(w http.ResponseWriter, r *http.Request) {
	s.show(w, "error", http.StatusNotFound, s.frame(r.Context(), view{Title: "No such page", Body: "There is no page at " + short(r.URL.Path, 80) + "."}))
}

// frame fills in the masthead.
func (s *site) frame(ctx context.Context, v view) view {
	g, err := s.backend.Graph(ctx, defaultWindow)
	if err != nil {
		v.Unknown = err.Error()
		return v
	}
	return v.of(g)
}

func (v view) of(g truth.Graph) view {
	v.Lock, v.Share, v.Generation = g.Lock, g.MutualTLS, g.Generation
	return v
}
