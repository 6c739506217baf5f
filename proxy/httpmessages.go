package proxy

import (
	"bytes"
	"net/http"
	"strings"
)

// requests and responses are a watch as what its framers tell of the messages.
type (
	requests  struct{ *http1Watch }
	responses struct{ *http1Watch }
)

var http1 = []byte("HTTP/1.")

func (w requests) begin() { w.started = w.clock() }

func (w requests) start(line []byte) error {
	if w.preface = string(line) == "PRI * HTTP/2.0"; w.preface {
		return nil
	}
	method, last := bytes.IndexByte(line, ' '), bytes.LastIndexByte(line, ' ')
	if method < 0 || !bytes.HasPrefix(line[last+1:], http1) || len(w.waiting) >= maxPipelined {
		return errFraming
	}
	w.method = methodName(line[:method])
	return nil
}

func (w requests) head() bodyKind {
	switch {
	case w.preface && w.request.total == uint64(len(http2Preface)) && w.count.Load() == 0:
		return bodyHTTP2
	case w.preface, w.http2 != nil: // a server of HTTP/2 has spoken
		w.giveUp()
		return bodyOpaque
	}
	w.count.Add(1)
	w.waiting = append(w.waiting, pending{method: w.method, start: w.started})
	return bodyByHead
}

func (w requests) done() {
	if n := len(w.waiting); n > 0 {
		w.waiting[n-1].size = w.request.total
	}
}

func (w responses) begin() {}

func (w responses) start(line []byte) error {
	rest := line[bytes.IndexByte(line, ' ')+1:]
	if i := bytes.IndexByte(rest, ' '); i >= 0 {
		rest = rest[:i]
	}
	w.nextCode = statusCode(string(rest))
	if w.nextCode == 0 || !bytes.HasPrefix(line, http1) {
		return errFraming
	}
	return nil
}

func (w responses) head() bodyKind {
	if len(w.waiting) == 0 {
		w.giveUp()
		return bodyOpaque
	}
	code := w.nextCode
	w.code, w.interim = code, code < 200 && code != 101
	method := w.waiting[0].method
	switch {
	case code == 101, method == "CONNECT" && code < 300:
		// From here on it is another protocol.
		w.finishFirst("-")
		w.giveUp()
		return bodyOpaque
	case code < 200, code == 204, code == 304, method == "HEAD":
		return bodyNone
	}
	return bodyUntilClose
}

func (w responses) done() {
	if !w.interim {
		w.finishFirst("-")
	}
}

// methodName is a request's method; the usual ones cost no memory.
func methodName(b []byte) string {
	switch string(b) {
	case http.MethodGet:
		return http.MethodGet
	case http.MethodPost:
		return http.MethodPost
	case http.MethodPut:
		return http.MethodPut
	case http.MethodHead:
		return http.MethodHead
	case http.MethodPatch:
		return http.MethodPatch
	case http.MethodDelete:
		return http.MethodDelete
	case http.MethodOptions:
		return http.MethodOptions
	case http.MethodConnect:
		return http.MethodConnect
	}
	return string(b[:min(len(b), maxMethod)])
}

// maxMethod bounds what is kept of a method.
const maxMethod = 32

// methodOf keeps no more of a method than that.
func methodOf(s string) string {
	if len(s) > maxMethod {
		return strings.Clone(s[:maxMethod])
	}
	return s
}

// statusCode is a response's status of three digits, 0 when it is none.
func statusCode(word string) int {
	if len(word) != 3 || word[0] == '0' {
		return 0
	}
	code := 0
	for _, c := range []byte(word) {
		if c < '0' || c > '9' {
			return 0
		}
		code = 10*code + int(c-'0')
	}
	return code
}
