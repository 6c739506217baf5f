package control_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"hasp/control"
)

// TestServeHTTP: a request that runs when the context ends is answered; a
// listener that fails is an error.
func TestServeHTTP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		stop()
		io.WriteString(w, "answered")
	})}
	done := make(chan error, 1)
	go func() { done <- control.ServeHTTP(ctx, ln, srv) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); string(b) != "answered" {
		t.Errorf("got %q, %v", b, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}

	err = control.ServeHTTP(t.Context(), ln, &http.Server{}) // closed
	if err == nil || !strings.HasPrefix(err.Error(), "serve on 127.0.0.1:") || !strings.Contains(err.Error(), "use of closed network connection") {
		t.Errorf("a closed listener: %v", err)
	}
}
