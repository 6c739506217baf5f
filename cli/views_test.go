package cli

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"hasp/control"
	"hasp/dashboard"
	"hasp/truth"
)

// fakeViews is a fake control plane: it answers each path with a fixed value,
// and knows of the connection "known" only.
type fakeViews map[string]any

func (f fakeViews) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, ok := f[r.Method+" "+r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set(control.VersionHeader, "7")
	if id := r.URL.Query().Get("id"); id != "" && id != "known" {
		http.Error(w, "nobody knows "+id, http.StatusNotFound)
		return
	}
	if lines, ok := v.(string); ok {
		io.WriteString(w, lines)
		return
	}
	json.NewEncoder(w).Encode(v)
}

func viewsAt(srv *httptest.Server) *viewClient {
	return &viewClient{&dashboard.Remote{Name: "the fake", Base: srv.URL, Client: srv.Client()}, func() {}}
}

// client of the fake.
func (f fakeViews) client(t *testing.T) *viewClient {
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	return viewsAt(srv)
}

func TestViews(t *testing.T) {
	v := fakeViews{
		"GET /facts":    truth.Facts{Version: 9},
		"GET /why":      truth.Postmortem{Sentence: "it was refused"},
		"POST /what-if": truth.Answer{Objects: []string{"PeerAuthentication shop/default created"}},
	}.client(t)
	ctx := t.Context()
	if f, err := v.Facts(ctx); err != nil || f.Version != 9 {
		t.Errorf("facts: %v, %v", f, err)
	}
	if p, err := v.Why(ctx, "known"); err != nil || p.Sentence != "it was refused" {
		t.Errorf("why: %v, %v", p, err)
	}
	if a, err := v.WhatIfOf(ctx, []byte("kind: x"), "shop", false); err != nil || len(a.Objects) != 1 {
		t.Errorf("what-if: %v, %v", a, err)
	}
	_, err := v.Why(ctx, "1234")
	if !errors.Is(err, dashboard.ErrUnknown) || err.Error() != "nobody knows 1234" {
		t.Errorf("why of what is unknown: %#v", err)
	}
	_, err = v.Plaintext(ctx)
	if err == nil || err.Error() != "the fake is of a version that has no /plaintext: hasp down and hasp up, on a cluster hasp install, bring this one's" {
		t.Errorf("a view that is not there: %v", err)
	}
}
