package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"hasp/mesh"
)

// unavailables are the configurations of a client whose requests come to nothing,
// with the reason that an answer names and the flag that counts it.
func unavailables(t *testing.T, m *lab) map[string]struct {
	config       mesh.ProxyConfig
	reason, flag string
} {
	dead := listenOn(t, "127.0.0.1")
	nobody := addrPort(dead.Addr())
	dead.Close()
	return map[string]struct {
		config       mesh.ProxyConfig
		reason, flag string
	}{
		"unreachable":                  {outboundConfig(nobody, m.server.spiffe, istioMutual(m.server.spiffe), mesh.GRPC), "connection failure, transport failure reason: ", "UF"},
		"plaintext to a STRICT server": {outboundConfig(m.at, "", mesh.ClientTLS{Mode: mesh.ClientDisable}, mesh.HTTP), "connection termination", "UC"},
	}
}

const unavailablePrefix = "upstream connect error or disconnect/reset before headers. reset reason: "

// TestGRPCClientIsToldUnavailable: with gRPC's own status, why, and the words for more; and what is asked later is asked of the server again.
func TestGRPCClientIsToldUnavailable(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	for name, tc := range unavailables(t, m) {
		m.client.apply(tc.config)
		before := len(m.client.outcomes(t))
		cc, c := dialGRPC(t, m.client.outboundTo(vip))
		answers := make(chan error)
		const several = 5
		for range several {
			go func() {
				_, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{})
				answers <- err
			}()
		}
		told := 0
		for range several {
			err := <-answers
			if status.Code(err) != codes.Unavailable {
				t.Errorf("%s: %v", name, err)
			}
			first, second, ours := strings.Cut(status.Convert(err).Message(), "\nhasp why ")
			if !ours { // its call came twice to a connection that had said GOAWAY
				continue
			}
			told++
			if !strings.HasPrefix(first, unavailablePrefix+tc.reason) {
				t.Errorf("%s: %v", name, err)
			}
			if f := m.client.row(func(f mesh.Connection) bool { return f.Trace == second }); f.Trace == "" {
				t.Errorf("%s: there was no connection %q", name, second)
			}
		}
		if told == 0 {
			t.Errorf("%s: nobody was told why", name)
		}
		cc.Close()
		until(t, "it is counted", func() bool { return len(m.client.outcomes(t)) > before })
		if got := m.client.outcomes(t); !strings.Contains(strings.Join(got, ""), "grpc 200 "+tc.flag+" status=14 ") {
			t.Errorf("%s: %q", name, got)
		}
	}

	at, _ := serveGRPC(t)
	real := bothEnds(t, mesh.GRPC, at)
	good := real.client.settings.Load().config
	real.client.apply(unavailables(t, real)["unreachable"].config)
	_, c := dialGRPC(t, real.client.outboundTo(vip))
	if _, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
		t.Fatal(err)
	}
	real.client.apply(*good)
	if _, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("the server is there, and the client is told %v", err)
	}
}

// TestHTTP2ClientGets503: with the body and the header that HTTP/1 gets.
func TestHTTP2ClientGets503(t *testing.T) {
	m := newLab(t, mesh.ModeStrict, echo)
	for name, tc := range unavailables(t, m) {
		m.client.apply(tc.config)
		for _, method := range []string{"GET", "HEAD", "POST"} {
			c := clientH2C(t)
			req, _ := http.NewRequestWithContext(t.Context(), method, "http://"+m.client.outboundTo(vip).String()+"/items", strings.NewReader(strings.Repeat("x", len(method)/4*100_000)))
			res, err := c.Do(req)
			if err != nil {
				t.Errorf("%s: %s: %v", name, method, err)
				continue
			}
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			trace := res.Header.Get(traceHeader)
			body := string(b)
			if method == "HEAD" {
				body = unavailablePrefix + tc.reason + "\nhasp why " + trace
			}
			if err != nil || res.StatusCode != 503 || res.ProtoMajor != 2 || trace == "" || !strings.HasPrefix(body, unavailablePrefix+tc.reason) || !strings.HasSuffix(body, "\nhasp why "+trace) {
				t.Errorf("%s: %s: %s %v, trace %q, %q", name, method, res.Status, err, trace, b)
			}
			c.CloseIdleConnections()
			f := m.client.row(func(f mesh.Connection) bool { return f.Trace == trace && ended(f) })
			if f.Failure == nil {
				t.Errorf("%s: %s: %+v", name, method, f)
			}
		}
		until(t, "it is counted", func() bool {
			return strings.Contains(strings.Join(m.client.outcomes(t), "\n"), "http 503 "+tc.flag+" status= x3")
		})
	}
}

// A client that gives no room for a body gets none.
func TestRefusalObeysTheWindow(t *testing.T) {
	k := newTalk2()
	k.client.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	k.get(1)
	k.w.fromClient(k.client.take())
	streams, last, window := k.w.unanswered()
	if len(streams) != 1 || last != 1 || window != 10 {
		t.Fatalf("%d streams up to %d, with %d bytes each", len(streams), last, window)
	}
	if got := frames2(t, refusal(streams, last, window, "7", "x", time.Now())); got != "SETTINGS ack, HEADERS 1 503 end, GOAWAY 1" {
		t.Errorf("%s", got)
	}
	if got := frames2(t, refusal(streams, last, initialWindow, "7", "x", time.Now())); got != "SETTINGS ack, HEADERS 1 503, DATA 1 end, GOAWAY 1" {
		t.Errorf("%s", got)
	}
	for id := uint32(3); id < 3+2*maxStreams; id += 2 { // more than the connection has room for
		streams = append(streams, http2Stream{id: id})
	}
	if n := strings.Count(frames2(t, refusal(streams, last, initialWindow, "7", strings.Repeat("x", 5000), time.Now())), "DATA"); n < 50 || n*maxReason > initialWindow {
		t.Errorf("%d bodies", n)
	}
}

func TestPercentEncoded(t *testing.T) {
	for in, want := range map[string]string{"": "", "a b~": "a b~", "50%\n": "50%25%0A", "ä\x7f": "%C3%A4%7F"} {
		if got := percentEncoded(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// frames2 are what a server wrote, as a client reads it.
func frames2(t *testing.T, b []byte) string {
	t.Helper()
	f := http2.NewFramer(io.Discard, bytes.NewReader(b))
	f.ReadMetaHeaders = hpack.NewDecoder(0, nil)
	var out []string
	for {
		fr, err := f.ReadFrame()
		if err == io.EOF {
			return strings.Join(out, ", ")
		}
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		end := ""
		switch fr := fr.(type) {
		case *http2.SettingsFrame:
			if fr.IsAck() {
				out = append(out, "SETTINGS ack")
			} else {
				out = append(out, "SETTINGS")
			}
		case *http2.MetaHeadersFrame:
			if fr.StreamEnded() {
				end = " end"
			}
			out = append(out, fmt.Sprintf("HEADERS %d %s%s", fr.StreamID, fr.PseudoValue("status"), end))
		case *http2.DataFrame:
			if fr.StreamEnded() {
				end = " end"
			}
			out = append(out, fmt.Sprintf("DATA %d%s", fr.StreamID, end))
		case *http2.GoAwayFrame:
			out = append(out, fmt.Sprintf("GOAWAY %d", fr.LastStreamID))
		default:
			t.Fatalf("%v", fr)
		}
	}
}

// said is a client that says something, and then no more.
type said struct {
	io.Reader
	bytes.Buffer
}

func (s *said) Read(p []byte) (int, error) { return s.Reader.Read(p) }

// FuzzRefusal: whatever a client says to a service that is not there, what it is told
// is what a client of HTTP/2 can read, and bounded.
func FuzzRefusal(f *testing.F) {
	k := newTalk2()
	k.get(1)
	f.Add(k.client.take())
	k = newTalk2()
	k.client.headers(1, true, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "x", "content-type", "application/grpc+proto")
	k.client.headers(3, false, ":method", "HEAD", ":scheme", "http", ":path", "/", ":authority", "x")
	f.Add(k.client.take())
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte(http2.ClientPreface))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		w := newHTTPWatch(time.Now, func(x exchange) {
			if n++; x.Code != 503 && (x.Code != 200 || x.Status != statusOf(codes.Unavailable)) {
				t.Errorf("%+v", x)
			}
		})
		c := &said{Reader: bytes.NewReader(b)}
		if !hearRequest(w, c) {
			if got := frames2(t, c.Bytes()); got != "" && got != "SETTINGS" {
				t.Errorf("who asked nothing was told %s", got)
			}
			return
		}
		streams, last, window := w.unanswered()
		got := frames2(t, append(c.Bytes(), refusal(streams, last, window, "0123456789abcdef", "why\x00", time.Now())...))
		if len(streams) > maxStreams || strings.Count(got, "HEADERS") != len(streams) {
			t.Errorf("%d streams: %s", len(streams), got)
		}
		if w.finish(503, "UF"); w.speaksHTTP2() && n != len(streams) {
			t.Errorf("%d streams, %d counted", len(streams), n)
		}
	})
}
