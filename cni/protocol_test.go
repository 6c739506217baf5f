package cni

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hasp/api"
)

// TestAsk asks over a real socket.
func TestAsk(t *testing.T) {
	plan := &api.CapturePlan{
		UID: 1000660000, ExcludeInboundPorts: []uint16{8081, 15021}, IncludeOutboundRanges: []netip.Prefix{},
		ExcludeOutboundRanges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
	}
	socket := filepath.Join(t.TempDir(), "s")
	ready := errors.New("the node's pods are not known yet")
	s := &server{
		log:   slog.New(slog.NewTextHandler(t.Output(), nil)),
		ready: func() error { return ready },
		find: func(_ context.Context, p Pod) (Answer, error) {
			switch p.Name {
			case "meshed":
				return Answer{Capture: plan}, nil
			case "plain":
				return Answer{Why: "because"}, nil
			case "silent":
				return Answer{}, nil
			}
			return Answer{}, errors.New("there is no pod " + p.String())
		},
	}
	l, err := listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, l) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	got, err := Ask(t.Context(), socket, Pod{Namespace: "shop", Name: "meshed", UID: "u"})
	if diff := cmp.Diff(got, Answer{Capture: plan}, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" || err != nil {
		t.Errorf("%v, (-got +want):\n%s", err, diff)
	}
	if got, err := Ask(t.Context(), socket, Pod{Namespace: "shop", Name: "plain"}); err != nil || got.Capture != nil || got.Why != "because" {
		t.Errorf("%+v, %v", got, err)
	}
	for name, want := range map[string]string{
		"nobody": "the agent says: there is no pod shop/nobody",
		"silent": "the agent's answer says neither what to capture nor why nothing",
		"a/b":    `the agent says: hasp-cni: the pod's name "a/b" is not a name`,
		"":       "the agent says: hasp-cni: the pod's name is missing",
	} {
		if _, err := Ask(t.Context(), socket, Pod{Namespace: "shop", Name: name}); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", name, err, want)
		}
	}
	if err := Ready(t.Context(), socket); err == nil || err.Error() != "the agent says: the node's pods are not known yet" {
		t.Errorf("ready: %v", err)
	}
	ready = nil
	if err := Ready(t.Context(), socket); err != nil {
		t.Errorf("ready: %v", err)
	}
}

// TestSuccessor: the next agent takes the name over, and the end of the last one
// leaves it alone.
func TestSuccessor(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	one, err := listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	two, err := listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	one.Close()
	s := &server{log: slog.New(slog.DiscardHandler), ready: func() error { return nil }}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, two) }()
	if err := Ready(t.Context(), socket); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestQuestionIsBounded(t *testing.T) {
	s := &server{log: slog.New(slog.DiscardHandler)}
	for body, want := range map[string]string{
		`{"namespace":"` + strings.Repeat("x", maxQuestion) + `"}`:   "the question: http: request body too large",
		`{"namespace":"a","name":"b","rights":"all"}`:                `the question: json: unknown field "rights"`,
		`{"namespace":"` + strings.Repeat("x", 64) + `","name":"b"}`: "hasp-cni: the pod's namespace is longer than 63 bytes",
	} {
		w := httptest.NewRecorder()
		s.handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, capturePath, strings.NewReader(body)))
		if got := strings.TrimSpace(w.Body.String()); w.Code != http.StatusBadRequest || got != want {
			t.Errorf("%d %s, want %s", w.Code, got, want)
		}
	}
}

func TestParseArgs(t *testing.T) {
	for in, want := range map[string]string{
		"": "none", "IgnoreUnknown=1": "none",
		"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=api;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u": "shop/api u",
		"K8S_POD_NAMESPACE=shop;K8S_POD_NAME=api":                                                            "shop/api ",
		"K8S_POD_NAMESPACE=shop": "hasp-cni: the pod's name is missing",
		"IgnoreUnknown":          `hasp-cni: CNI_ARGS: "IgnoreUnknown" is not KEY=VALUE`,
	} {
		p, ok, err := parseArgs(in)
		got := "none"
		switch {
		case err != nil:
			got = err.Error()
		case ok:
			got = p.String() + " " + p.UID
		}
		if got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func FuzzArgs(f *testing.F) {
	f.Add("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=api;K8S_POD_UID=u")
	f.Add(";;==")
	f.Fuzz(func(t *testing.T, args string) {
		p, ok, err := parseArgs(args)
		if err == nil && ok && p.validate() != nil {
			t.Errorf("accepted %+v", p)
		}
	})
}

func FuzzQuestion(f *testing.F) {
	f.Add([]byte(`{"namespace":"shop","name":"api","uid":"u"}`))
	f.Add([]byte(`{"namespace":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseQuestion(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if q, err := parseQuestion(again); err != nil || q != p {
			t.Errorf("%+v, then %+v, %v", p, q, err)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"capture":{"uid":1337,"excludeInboundPorts":[15021],"excludeOutboundRanges":["10.0.0.0/8",""]}}`))
	f.Add([]byte(`{"why":"no sidecar"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := parseAnswer(b); err == nil && a.Capture != nil {
			_ = spec(a.Capture).String()
		}
	})
}

func FuzzConf(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.0.0","name":"pods","type":"hasp-cni","socket":"/s","prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.2/24"}]}}`))
	f.Add([]byte(`{"cniVersion":"0.3.1","socket":"/s","prevResult":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseConf(b); err == nil && c.result() == nil {
			t.Error("no result and no error")
		}
	})
}
