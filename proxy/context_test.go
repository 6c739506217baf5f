package proxy

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"hasp/mesh"
)

// traceContext is what tracing systems of others send along: W3C Trace Context,
// and what Envoy and applications use besides. The mesh has ids of its own and
// leaves these alone.
var traceContext = map[string]string{
	"Traceparent":  "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	"Tracestate":   "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7",
	"Baggage":      "userId=alice",
	"X-Request-Id": "b35ba8ec-8e8a-4f0b-9e0c-3d1f0c8f7a11",
	"X-B3-Traceid": "80f198ee56343ba864fe8b2a57d3eff7",
	"X-Ot-Span":    strings.Repeat("long", 300),
}

// contextMirror answers with the headers it was sent.
var contextMirror = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	for name := range traceContext {
		for _, v := range r.Header.Values(name) {
			w.Header().Add("Got-"+name, v)
		}
	}
	w.Header().Set("Traceresponse", "00-4bf92f3577b34da6a3ce929d0e0e4736-b7ad6b7169203331-01")
})

func checkContext(t *testing.T, h http.Header) {
	t.Helper()
	for name, want := range traceContext {
		if got := h.Values("Got-" + name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q arrived, want %q", name, got, want)
		}
	}
	if h.Get("Traceresponse") == "" || h.Get(traceHeader) != "" {
		t.Errorf("answer %v", h)
	}
}

func TestSidecarsLeaveTraceContextAlone(t *testing.T) {
	backend := httptest.NewServer(contextMirror)
	defer backend.Close()
	m := bothEnds(t, mesh.HTTP, netip.MustParseAddrPort(backend.Listener.Addr().String()))
	c := dial(t, "127.0.0.5", m.client.outboundTo(vip))
	req := "GET / HTTP/1.1\r\nHost: x\r\n"
	for name, v := range traceContext {
		req += name + ": " + v + "\r\n"
	}
	fmt.Fprint(c, req+"\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	checkContext(t, res.Header)
}

func TestGatewayLeavesTraceContextAlone(t *testing.T) {
	m := newGatewayLab(t, contextMirror)
	m.gw.apply(m.config)
	code, _, h := m.get(t, "/", func(r *http.Request) {
		for name, v := range traceContext {
			r.Header.Set(name, v)
		}
	})
	if code != 200 {
		t.Fatalf("status %d", code)
	}
	checkContext(t, h)
}
