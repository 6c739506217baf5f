package userprofile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"sharedboards/internal/service"
)

// maxBody bounds a profile as JSON.
const maxBody = 64 << 10

// HandlerConfig is what the HTTP side needs.
type HandlerConfig struct {
	Store *Store
	Log   *slog.Logger
	// StyleID is the look of the magic user's page, "1" if empty. It tells the
	// versions of the service apart in the labs.
	StyleID string
	// Delay makes every answer wait: version 2 of the labs takes 10 s.
	Delay time.Duration
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// NewHandler serves the userprofile API.
func NewHandler(cfg HandlerConfig) http.Handler {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.StyleID == "" {
		cfg.StyleID = "1"
	}
	h := handler{cfg}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /users", h.guard(h.list))
	mux.HandleFunc("POST /users", h.guard(h.create))
	mux.HandleFunc("GET /users/{id}", h.guard(h.get))
	mux.HandleFunc("PUT /users/{id}", h.guard(h.update))
	mux.HandleFunc("POST /users/{id}/photo", h.guard(h.upload))
	mux.HandleFunc("GET /users/{id}/photo", h.guard(h.download))
	return mux
}

type handler struct{ HandlerConfig }

// badRequest is the client's mistake, in words for the client.
type badRequest struct {
	status int
	why    string
}

func (e badRequest) Error() string { return e.why }

// guard checks the id, waits as long as it is told to, and turns an error into
// its status.
func (h handler) guard(handle func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var err error
		if why := service.NameFault(r.PathValue("id")); why != "" {
			err = badRequest{http.StatusBadRequest, "the id in the path " + why}
		} else if err = h.wait(r); err == nil {
			err = handle(w, r)
		}
		var bad badRequest
		switch {
		case err == nil:
		case errors.As(err, &bad):
			http.Error(w, bad.why, bad.status)
		case errors.Is(err, ErrNotFound):
			w.WriteHeader(http.StatusNotFound) // without a body, as the original
		default:
			h.Log.Error("request failed", slog.String("path", r.URL.EscapedPath()), slog.String("error", err.Error()))
			http.Error(w, "the store of the profiles cannot be used right now", http.StatusInternalServerError)
		}
	}
}

// wait waits for Delay, or until the client has gone.
func (h handler) wait(r *http.Request) error {
	if h.Delay <= 0 {
		return nil
	}
	t := time.NewTimer(h.Delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-r.Context().Done():
		return fmt.Errorf("wait for the delay: %w", r.Context().Err())
	}
}

func (h handler) list(w http.ResponseWriter, r *http.Request) error {
	list, err := h.Store.Profiles(r.Context())
	if err != nil {
		return err
	}
	return document(w, list)
}

func (h handler) create(w http.ResponseWriter, r *http.Request) error {
	q, err := decode(w, r)
	if err != nil {
		return err
	}
	done, err := h.Store.Create(r.Context(), q.profile(h.Now()))
	switch {
	case err != nil:
		return err
	case !done:
		return badRequest{http.StatusBadRequest, "this id is taken"}
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (h handler) get(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if id == MagicID {
		return document(w, magicProfile(h.StyleID, h.Now()))
	}
	p, err := h.Store.Profile(r.Context(), id)
	if err != nil {
		return err
	}
	return document(w, p)
}

func (h handler) update(w http.ResponseWriter, r *http.Request) error {
	q, err := decode(w, r)
	if err != nil {
		return err
	}
	if q.ID != r.PathValue("id") {
		return badRequest{http.StatusBadRequest, "the id in the body is not the id in the path"}
	}
	done, err := h.Store.Update(r.Context(), q.profile(h.Now()))
	switch {
	case err != nil:
		return err
	case !done:
		return badRequest{http.StatusBadRequest, "there is no user with this id"}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// document answers 200 with v as JSON on one line.
func document(w http.ResponseWriter, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(bytes.TrimSuffix(buf.Bytes(), []byte("\n"))) // a client that has gone is not our error
	return nil
}

// decode reads and checks the profile in a request body.
func decode(w http.ResponseWriter, r *http.Request) (profileRequest, error) {
	var q profileRequest
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return q, badRequest{http.StatusUnsupportedMediaType, "the body must be application/json"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return q, bodyFault(err, maxBody)
	}
	if err := json.Unmarshal(body, &q); err != nil {
		return q, badRequest{http.StatusBadRequest, "the body is not the JSON we expect: " + err.Error()}
	}
	if why := q.fault(); why != "" {
		return q, badRequest{http.StatusBadRequest, why}
	}
	return q, nil
}

// bodyFault says why a body could not be read.
func bodyFault(err error, max int64) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return badRequest{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", max)}
	}
	return badRequest{http.StatusBadRequest, "the body did not arrive whole"}
}
