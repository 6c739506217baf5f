package service_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sharedboards/internal/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a service until stop is called, which returns what Run returned.
func start(t *testing.T, log io.Writer, h http.Handler) (url string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	addr := make(chan net.Addr, 1)
	done := make(chan error, 1)
	go func() {
		done <- service.Run(ctx, service.Config{
			Addr:      "127.0.0.1:0",
			Handler:   h,
			Health:    []string{"/health_check"},
			Log:       slog.New(slog.NewTextHandler(log, nil)),
			Drain:     time.Second,
			Listening: func(a net.Addr) { addr <- a },
		})
	}()
	select {
	case a := <-addr:
		return "http://" + a.String(), func() error { cancel(); return <-done }
	case err := <-done:
		cancel()
		t.Fatal(err)
		return "", nil
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestRun(t *testing.T) {
	var log bytes.Buffer
	url, stop := start(t, &log, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("on purpose")
		}
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
	}))
	for path, want := range map[string]string{
		"/healthz":      "200 ok\n",
		"/health_check": "200 ok\n",
		"/pot":          "418 short and stout",
		"/panic":        "500 Internal Server Error\n",
	} {
		status, body := get(t, url+path)
		code, text, _ := strings.Cut(want, " ")
		if code != strconv.Itoa(status) || body != text {
			t.Errorf("GET %s: %d %q, want %q", path, status, body, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	out := log.String()
	for _, line := range []string{
		`msg=request method=GET path=/pot status=418 bytes=15`,
		`msg=request method=GET path=/panic status=500`,
		`msg="handler panicked" panic="on purpose"`,
		`msg=stopped`,
	} {
		if !strings.Contains(out, line) {
			t.Errorf("log lacks %s:\n%s", line, out)
		}
	}
	if strings.Contains(out, "healthz") {
		t.Errorf("health checks are in the log:\n%s", out)
	}
}

// TestDrain ends the service under a running request: the request still gets
// its answer.
func TestDrain(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	url, stop := start(t, io.Discard, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(started)
		<-release
		_, _ = io.WriteString(w, "late")
	}))
	answer := make(chan string, 1)
	go func() { _, body := get(t, url); answer <- body }()
	<-started
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	close(release)
	if got := <-answer; got != "late" {
		t.Errorf("answer %q", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestAddressInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	err = service.Run(context.Background(), service.Config{
		Addr: ln.Addr().String(), Handler: http.NotFoundHandler(), Log: slog.New(slog.DiscardHandler),
	})
	if err == nil || !strings.HasPrefix(err.Error(), "listen for http: ") {
		t.Errorf("got %v", err)
	}
}

func TestNameFault(t *testing.T) {
	for name, want := range map[string]string{
		"":                       "",
		"sarah":                  "",
		"Zoë.O'Brien-3":          "",
		strings.Repeat("a", 129): "is longer than 128 bytes",
		"a\xff":                  "is not UTF-8",
		"a\nb":                   "has a character that does not print",
		"a\u202eb":               "has a character that does not print",
	} {
		if got := service.NameFault(name); got != want {
			t.Errorf("NameFault(%q) = %q, want %q", name, got, want)
		}
	}
}
