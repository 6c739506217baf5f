package control

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"hasp/truth"
	"hasp/world"
)

// VersionHeader of every view is the version of the facts it was made of.
const VersionHeader = "X-Hasp-Version"

// Views answers, as JSON, what people ask of the facts. Every answer is made of
// one World and one snapshot of the facts.
//
//	GET  /facts                    truth.Facts
//	GET  /connections?workload=W   []truth.Link
//	GET  /plaintext                truth.PlainLedger
//	GET  /timeline                 []truth.Change, the newest first
//	POST /what-if?namespace=&delete=  manifests -> truth.Answer
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
	view("GET /facts", func(_ *http.Request, _ *world.World, f *truth.Facts) (any, error) { return f, nil })
	view("GET /connections", func(r *http.Request, w *world.World, f *truth.Facts) (any, error) {
		return list(truth.Links(w, f, r.FormValue("workload"))), nil
	})
	view("GET /plaintext", func(_ *http.Request, w *world.World, f *truth.Facts) (any, error) {
		return truth.PlaintextOf(w, f), nil
	})
	view("GET /timeline", func(*http.Request, *world.World, *truth.Facts) (any, error) { return list(c.timeline.newest()), nil })
	view("POST /what-if", func(r *http.Request, _ *world.World, _ *truth.Facts) (any, error) { return c.whatIf(r) })
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
