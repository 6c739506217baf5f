package cli

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hasp/dashboard"
)

// TestReplica: one that went away is given back, and another one asked at once.
func TestReplica(t *testing.T) {
	answer := func(text string) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text+" "+r.URL.RequestURI()) }))
	}
	one, two := answer("one"), answer("two")
	defer two.Close()
	left := []*httptest.Server{one, two}
	stopped := 0
	r := &replica{open: func() (*viewClient, error) {
		if len(left) == 0 {
			return nil, errors.New("no control plane is ready")
		}
		v := &viewClient{&dashboard.Remote{Base: left[0].URL, Client: left[0].Client()}, func() { stopped++ }}
		left = left[1:]
		return v, nil
	}}
	client := &http.Client{Transport: r}
	ask := func() (string, error) {
		resp, err := client.Get("http://replica/graph?window=1m0s")
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	if got, err := ask(); err != nil || got != "one /graph?window=1m0s" {
		t.Errorf("%q %v", got, err)
	}
	one.Close()
	if got, err := ask(); err != nil || !strings.HasPrefix(got, "two ") || stopped != 1 {
		t.Errorf("%q %v, %d stopped", got, err, stopped)
	}
	r.close()
	if _, err := ask(); err == nil || !strings.Contains(err.Error(), "no control plane is ready") || stopped != 2 {
		t.Errorf("%v, %d stopped", err, stopped)
	}
}

func TestListenLoopback(t *testing.T) {
	ln, err := listenLoopback(0)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	again, err := listenLoopback(0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for _, a := range []string{ln.Addr().String(), again.Addr().String()} {
		if !strings.HasPrefix(a, "127.0.0.1:") {
			t.Errorf("it listens on %s", a)
		}
	}
}

// TestOpenPage: without a display the address is all there is.
func TestOpenPage(t *testing.T) {
	for name, environ := range map[string][]string{"no display": nil, "not wanted": {"DISPLAY=:0"}} {
		var out bytes.Buffer
		e := &env{Config: Config{Out: &out, Err: &out, Environ: environ}}
		if err := e.openPage(t.Context(), "http://127.0.0.1:20001", name == "not wanted"); err != nil || out.String() != "http://127.0.0.1:20001\n" {
			t.Errorf("%s: %q %v", name, out.String(), err)
		}
	}
}
