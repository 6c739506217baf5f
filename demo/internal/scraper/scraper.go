// Package scraper asks a search engine on the internet for the context of a
// term: the service of the labs that needs a way out of the mesh.
package scraper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"sharedboards/internal/trace"
)

// DefaultUpstream is Google's custom search, as in the original.
const DefaultUpstream = "https://www.googleapis.com/customsearch/v1/siterestrict"

const (
	maxTerm   = 1 << 10 // of the term, in bytes
	maxAnswer = 4 << 20 // of the upstream's answer, in bytes
)

// Config is what the service needs.
type Config struct {
	// Upstream is the search engine's URL, [DefaultUpstream] if empty.
	Upstream string
	// Key and CX are Google's API key and engine id. The key is a secret: it
	// goes to the upstream and nowhere else.
	Key, CX string
	// Timeout bounds one search, 10 s if zero.
	Timeout time.Duration
	// Transport carries the searches, http.DefaultTransport if nil.
	Transport http.RoundTripper
	Log       *slog.Logger
}

// Result is one thing that was found.
type Result struct {
	Link      string          `json:"link"`
	Thumbnail json.RawMessage `json:"thumbnail,omitempty"`
	Title     string          `json:"title"`
	Snippet   string          `json:"snippet"`
}

// NewHandler serves GET /scrape/custom_search?term=X: an array of results, or
// 500 with the field "oops".
func NewHandler(cfg Config) (http.Handler, error) {
	if cfg.Upstream == "" {
		cfg.Upstream = DefaultUpstream
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	base, err := url.Parse(cfg.Upstream)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("scraper: upstream %q is not an http or https URL", cfg.Upstream)
	}
	h := handler{cfg: cfg, base: base, client: &http.Client{Transport: cfg.Transport, Timeout: cfg.Timeout}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /scrape/custom_search", h.search)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusNotFound, map[string]string{"oops": "Not Found", "error": "hidden"})
	})
	return mux, nil
}

type handler struct {
	cfg    Config
	base   *url.URL
	client *http.Client
}

func (h handler) search(w http.ResponseWriter, r *http.Request) {
	term := r.URL.Query().Get("term")
	if len(term) > maxTerm {
		answer(w, http.StatusBadRequest, map[string]string{"oops": fmt.Sprintf("the term is longer than %d bytes", maxTerm)})
		return
	}
	results, err := h.ask(r.Context(), term, r.Header)
	if err != nil {
		h.cfg.Log.Warn("search failed", slog.String("upstream", h.base.Host), slog.String("error", err.Error()))
		answer(w, http.StatusInternalServerError, map[string]oops{"oops": describe(err)})
		return
	}
	answer(w, http.StatusOK, results)
}

// ask sends one search upstream and reads what was found.
func (h handler) ask(ctx context.Context, term string, from http.Header) ([]Result, error) {
	u := *h.base
	q := u.Query()
	for name, value := range map[string]string{"key": h.cfg.Key, "cx": h.cfg.CX, "q": term} {
		q.Set(name, value)
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errors.New("make the request") // the cause would show the key
	}
	trace.Forward(req.Header, from)
	res, err := h.client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, statusError(res.StatusCode)
	}
	return parse(io.LimitReader(res.Body, maxAnswer))
}

// parse reduces Google's answer to what the app shows.
func parse(body io.Reader) ([]Result, error) {
	var found struct {
		Items []struct {
			Link, Title, Snippet string
			Pagemap              struct {
				Thumbnail json.RawMessage `json:"cse_thumbnail"`
			}
		}
	}
	if err := json.NewDecoder(body).Decode(&found); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	results := make([]Result, 0, len(found.Items))
	for _, it := range found.Items {
		results = append(results, Result{Link: it.Link, Thumbnail: it.Pagemap.Thumbnail, Title: it.Title, Snippet: it.Snippet})
	}
	return results, nil
}

func answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // only a broken RawMessage could, and it was decoded before
		status, body = http.StatusInternalServerError, []byte(`{"oops":"the answer cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone is not our error
}
