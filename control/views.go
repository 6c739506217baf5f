package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"hasp/truth"
	"hasp/world"
)

// VersionHeader of every view is the version of the facts it was made of.
const VersionHeader = "X-Hasp-Version"

// defaultWindow is the graph's.
const defaultWindow = time.Minute

// Views answers, as JSON, what people ask of the facts. Every answer is made of
// one World and one snapshot of the facts.
//
//	GET  /facts                    truth.Facts
//	GET  /connections?workload=W   []truth.Link
//	GET  /plaintext                truth.PlainLedger
//	GET  /graph?window=60s         truth.Graph
//	GET  /why?id=TRACE             truth.Postmortem
//	GET  /timeline                 []truth.Change, the newest first
//	POST /what-if?namespace=&delete=  manifests -> truth.Answer
//	POST /verify?workload=W        proof.Signed
//	GET  /events                   server-sent: "facts", with the version
func (c *Control) Views() http.Handler {
	mux := http.NewServeMux()
	view := func(pattern string, of func(*http.Request, *world.World, *truth.Facts) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			world, f, err := c.Facts()
			if err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			w.Header().Set(VersionHeader, strconv.FormatUint(f.Version, 10))
			answer(w, func() (any, error) { return of(r, world, f) })
		})
	}
	view("GET /facts", func(r *http.Request, _ *world.World, f *truth.Facts) (any, error) {
		c.elsewhere(r.Context(), f)
		return f, nil
	})
	view("GET /connections", func(r *http.Request, w *world.World, f *truth.Facts) (any, error) {
		return list(truth.Links(w, f, r.FormValue("workload"))), nil
	})
	view("GET /plaintext", func(_ *http.Request, w *world.World, f *truth.Facts) (any, error) {
		return truth.PlaintextOf(w, f), nil
	})
	view("GET /graph", func(r *http.Request, w *world.World, f *truth.Facts) (any, error) {
		window, err := windowOf(r)
		if err != nil {
			return nil, err
		}
		return truth.GraphOf(w, f, window), nil
	})
	view("GET /why", func(r *http.Request, w *world.World, f *truth.Facts) (any, error) {
		id := r.FormValue("id")
		p, ok := truth.Why(w, f, id)
		if !ok {
			return nil, &viewError{http.StatusNotFound, fmt.Sprintf("no connection %q is remembered: those that live are, and the last %d of each proxy that ended; hasp connections -o wide lists them", id, truth.DefaultRecent)}
		}
		return p, nil
	})
	view("GET /timeline", func(*http.Request, *world.World, *truth.Facts) (any, error) { return list(c.timeline.newest()), nil })
	view("POST /what-if", func(r *http.Request, _ *world.World, _ *truth.Facts) (any, error) { return c.whatIf(r) })
	mux.HandleFunc("POST /verify", c.serveVerify)
	mux.HandleFunc("GET /events", c.events)
	return mux
}

// viewError is an error with its HTTP status.
type viewError struct {
	status int
	text   string
}

func (e *viewError) Error() string { return e.text }

func answer(w http.ResponseWriter, of func() (any, error)) {
	v, err := of()
	if err != nil {
		status := http.StatusInternalServerError
		var known *viewError
		if errors.As(err, &known) {
			status = known.status
		}
		http.Error(w, err.Error(), status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// list is never null in JSON.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

func windowOf(r *http.Request) (time.Duration, error) {
	s := r.FormValue("window")
	if s == "" {
		return defaultWindow, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, &viewError{http.StatusBadRequest, fmt.Sprintf("window %q is not a duration such as 60s", s)}
	}
	return d, nil
}
