package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestWaitReady(t *testing.T) {
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer s.Close()
	if err := waitReady(t.Context(), s.URL); err != nil || asked.Load() != 3 {
		t.Errorf("asked %d times, %v", asked.Load(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	asked.Store(0)
	never := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if w.WriteHeader(http.StatusServiceUnavailable); asked.Add(1) == 2 {
			cancel() // the first answer has been heard
		}
	}))
	defer never.Close()
	err := waitReady(ctx, never.URL)
	if want := "wait: the sidecar is not ready: 503 Service Unavailable"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestVerifyFlags(t *testing.T) {
	for arg, want := range map[string]string{
		"--targets=":          "hasp-proxy verify: --targets is needed\n",
		"--targets=192.0.2.1": `invalid value "192.0.2.1" for flag -targets: not an ip:port`,
		"now":                 "hasp-proxy verify: unexpected argument \"now\"\n",
	} {
		var out strings.Builder
		err := verifyCommand(t.Context(), []string{arg}, io.Discard, &out)
		var wrong usageError
		if !errors.As(err, &wrong) || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v\n%s", arg, err, out.String())
		}
	}
}
