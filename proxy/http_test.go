package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
)

// conversation feeds alternating pieces, client first, and returns what the
// observer made of them.
func conversation(pieces ...string) (got []string, w *httpWatch) {
	w = newHTTPWatch(time.Now, func(x exchange) { got = append(got, fmt.Sprintf("%s %d %s", x.Method, x.Code, x.Flags)) })
	for i, p := range pieces {
		if i%2 == 0 {
			w.fromClient([]byte(p))
		} else {
			w.fromUpstream([]byte(p))
		}
	}
	return got, w
}

var conversations = []struct {
	name   string
	pieces []string
	want   []string
	opaque bool // the observer gave up, or another protocol has begun
}{
	{"content length", []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}, []string{"GET 200 -"}, false},
	{"two after each other", []string{"POST /a HTTP/1.1\r\ncontent-length:3\r\n\r\nabc", "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", "DELETE /a HTTP/1.1\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"}, []string{"POST 201 -", "DELETE 204 -"}, false},
	{"pipelined", []string{"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 404 No\r\nContent-Length: 1\r\n\r\n2"}, []string{"GET 200 -", "GET 404 -"}, false},
	{"chunked", []string{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nTrailer: 1\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n"}, []string{"POST 200 -"}, false},
	{"head has no body", []string{"HEAD / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"}, []string{"HEAD 200 -", "GET 304 -"}, false},
	{"100 continue", []string{"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "x", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}, []string{"PUT 200 -"}, false},
	{"until close", []string{"GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nall the rest GET / HTTP/1.1\r\n\r\n"}, []string{"GET 200 -"}, false},
	{"upgrade", []string{"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x00", "\x81\x00", ""}, []string{"GET 101 -"}, true},
	{"connect", []string{"CONNECT x:443 HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n\x16\x03", "\x16\x03", ""}, []string{"CONNECT 200 -"}, true},
	{"no answer", []string{"GET / HTTP/1.1\r\n\r\n", ""}, []string{"GET 0 UC"}, false},
	{"half an answer", []string{"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"}, []string{"GET 200 UC"}, false},
	{"http2", []string{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x00\x00\x00\x04"}, nil, false},
	{"http2's preface with a header", []string{"PRI * HTTP/2.0\r\nA: b\r\n\r\nSM\r\n\r\n", ""}, nil, true},
	{"http2's preface after a request", []string{"GET / HTTP/1.1\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""}, nil, true},
	{"http2 of the server alone", []string{"", "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "GET / HTTP/1.1\r\n\r\n", ""}, nil, true},
	{"server first", []string{"", "220 hello\r\n\r\n"}, nil, true},
	{"both length and chunks", []string{"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", ""}, nil, true},
	{"two lengths", []string{"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", ""}, nil, true},
	{"signed length", []string{"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", ""}, nil, true},
	{"blank before colon", []string{"POST / HTTP/1.1\r\nContent-Length : 1\r\n\r\n", ""}, nil, true},
	{"folded header", []string{"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", ""}, nil, true},
	{"bad chunk", []string{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", ""}, nil, true},
	{"endless line", []string{"GET /" + strings.Repeat("a", maxHeadLine), ""}, nil, true},
	{"endless head", []string{"GET / HTTP/1.1\r\n" + strings.Repeat("A: b\r\n", maxHead/6), ""}, nil, true},
}

func TestHTTPObserver(t *testing.T) {
	for _, tc := range conversations {
		t.Run(tc.name, func(t *testing.T) {
			got, w := conversation(tc.pieces...)
			w.emit = func(x exchange) { got = append(got, fmt.Sprintf("%s %d %s", x.Method, x.Code, x.Flags)) }
			w.finish(0, "UC")
			if diff := cmp.Diff(tc.want, got); diff != "" || w.opaque != tc.opaque {
				t.Errorf("opaque %v, exchanges (-want +got):\n%s", w.opaque, diff)
			}
		})
	}
}

// The same conversations, a byte at a time.
func TestHTTPObserverInDrops(t *testing.T) {
	for _, tc := range conversations {
		whole, _ := conversation(tc.pieces...)
		var drops []string
		for i, p := range tc.pieces {
			if len(drops)%2 != i%2 {
				drops = append(drops, "")
			}
			for j := range len(p) {
				drops = append(drops, p[j:j+1], "")
			}
		}
		got, w := conversation(drops...)
		if diff := cmp.Diff(whole, got); diff != "" || w.opaque != tc.opaque {
			t.Errorf("%s: opaque %v, exchanges (-whole +drops):\n%s", tc.name, w.opaque, diff)
		}
	}
}

// Whatever passes by: no panic, bounded memory, and the outcome does not depend
// on where the pieces are cut.
func FuzzHTTPObserver(f *testing.F) {
	for _, tc := range conversations {
		if len(tc.pieces) >= 2 && len(tc.pieces[0]) < 1000 {
			f.Add([]byte(tc.pieces[0]), []byte(tc.pieces[1]), 7)
		}
	}
	f.Fuzz(func(t *testing.T, client, server []byte, cut int) {
		run := func(cut int) (out []string, opaque bool) {
			w := newHTTPWatch(time.Now, func(x exchange) { out = append(out, fmt.Sprintf("%s %d %s", x.Method, x.Code, x.Flags)) })
			for _, dir := range []struct {
				p    []byte
				feed func([]byte)
			}{{client, func(p []byte) { w.fromClient(p) }}, {server, w.fromUpstream}} {
				p := dir.p
				if cut > 0 && cut < len(p) {
					dir.feed(p[:cut])
					p = p[cut:]
				}
				if len(p) > 0 {
					dir.feed(p)
				}
			}
			if h := w.http1; h != nil && (len(h.waiting) > maxPipelined || len(h.request.line) > maxHeadLine || len(h.response.line) > maxHeadLine) {
				t.Errorf("remembers %d requests, %d and %d bytes", len(h.waiting), len(h.request.line), len(h.response.line))
			}
			return out, w.opaque
		}
		whole, opaque := run(0)
		pieces, opaqueToo := run(cut)
		if diff := cmp.Diff(whole, pieces); diff != "" || opaque != opaqueToo {
			t.Errorf("cut at %d: opaque %v and %v, exchanges (-whole +pieces):\n%s", cut, opaque, opaqueToo, diff)
		}
	})
}

// Between its messages a connection remembers nothing of HTTP/1, nor does one
// that cannot be followed or speaks HTTP/2.
func TestHTTPObserverRests(t *testing.T) {
	for _, tc := range []struct {
		name   string
		pieces []string
		rests  bool
	}{
		{"silent", nil, true},
		{"an exchange", []string{"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}, true},
		{"an exchange and an empty line", []string{"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", "\r\n"}, true},
		{"half a request", []string{"GET / HT"}, false},
		{"a request", []string{"GET / HTTP/1.1\r\n\r\n"}, false},
		{"a request's answer that has begun", []string{"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"}, false},
		{"an answer before all of the request", []string{"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\na", "HTTP/1.1 204 No Content\r\n\r\n"}, false},
		{"nothing that can be followed", []string{"\x16\x03\x01\n"}, true},
		{"HTTP/2", []string{http2.ClientPreface}, true},
	} {
		if _, w := conversation(tc.pieces...); (w.http1 == nil) != tc.rests {
			t.Errorf("%s: remembers something: %v", tc.name, w.http1 != nil)
		}
	}
}
