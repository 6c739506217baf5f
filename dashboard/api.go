package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"hasp/truth"
)

const (
	// maxCandidate bounds the manifests of a what-if, in bytes.
	maxCandidate  = 1 << 20
	defaultWindow = truth.MaxWindow
	maxWindow     = 366 * 24 * time.Hour // all that is remembered
)

// api serves what the pages are made of: the JSON of the commands.
func (s *site) api(mux *http.ServeMux) {
	serve := func(pattern string, of func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := of(r)
			if err != nil {
				http.Error(w, err.Error(), statusOf(err))
				return
			}
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(v)
		})
	}
	plain := func(of func(context.Context) (any, error)) func(*http.Request) (any, error) {
		return func(r *http.Request) (any, error) { return of(r.Context()) }
	}
	b := s.backend
	serve("GET /api/status", plain(b.Status))
	serve("GET /status.json", plain(b.Status)) // its address before there was an api
	serve("GET /api/facts", func(r *http.Request) (any, error) { return b.Facts(r.Context()) })
	serve("GET /api/connections", func(r *http.Request) (any, error) { return b.Links(r.Context(), r.FormValue("workload")) })
	serve("GET /api/plaintext", func(r *http.Request) (any, error) { return b.Plaintext(r.Context()) })
	serve("GET /api/timeline", func(r *http.Request) (any, error) { return b.Timeline(r.Context()) })
	serve("GET /api/why", func(r *http.Request) (any, error) { return b.Why(r.Context(), r.FormValue("id")) })
	serve("GET /api/graph", func(r *http.Request) (any, error) {
		window, err := windowOf(r)
		if err != nil {
			return nil, err
		}
		return b.Graph(r.Context(), window)
	})
	serve("POST /api/what-if", func(r *http.Request) (any, error) {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxCandidate+1))
		if err != nil {
			return nil, &Invalid{err.Error()}
		}
		if len(body) > maxCandidate {
			return nil, tooLong()
		}
		return b.WhatIf(r.Context(), body)
	})
}

func tooLong() error {
	return &Invalid{fmt.Sprintf("the manifests are longer than %d MiB; ask for fewer at a time", maxCandidate>>20)}
}

func windowOf(r *http.Request) (time.Duration, error) {
	s := r.FormValue("window")
	switch s {
	case "":
		return defaultWindow, nil
	case "all":
		return maxWindow, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second || d > maxWindow {
		return 0, &Invalid{fmt.Sprintf("window %q is not a duration such as 60s, or all", s)}
	}
	return d, nil
}

func statusOf(err error) int {
	var invalid *Invalid
	switch {
	case errors.As(err, &invalid):
		return http.StatusBadRequest
	case errors.Is(err, ErrUnknown):
		return http.StatusNotFound
	}
	return http.StatusServiceUnavailable
}
