package cluster

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// A browser beside the end of a port-forward is no way in for other sites.
func TestAdminIsForItsOwnMachine(t *testing.T) {
	h := ownMachine(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, tt := range []struct {
		method, host, origin string
		code                 int
	}{
		{"GET", "127.0.0.1:40000", "", http.StatusOK},
		{"GET", "localhost:15000", "", http.StatusOK},
		{"GET", "[::1]:15000", "", http.StatusOK},
		{"GET", "localhost", "", http.StatusOK},
		{"POST", "127.0.0.1:40000", "", http.StatusOK},
		{"GET", "rebound.example:40000", "", http.StatusForbidden},
		{"GET", "", "", http.StatusForbidden},
		{"POST", "127.0.0.1:40000", "https://site.example", http.StatusForbidden},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(tt.method, "/verify", nil)
		if r.Host = tt.host; tt.origin != "" {
			r.Header.Set("Origin", tt.origin)
		}
		h.ServeHTTP(w, r)
		if w.Code != tt.code {
			t.Errorf("%s of %q from %q: %d, want %d", tt.method, tt.host, tt.origin, w.Code, tt.code)
		}
	}
}
