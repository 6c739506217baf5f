package proxy

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxPipelined bounds the requests that wait for their response at a time.
const maxPipelined = 64

// exchange is one HTTP request and its response.
type exchange struct {
	Method   string
	Code     int    // of the response; 0 when none came
	Flags    string // Envoy's response flags: "-", "DC", "UC"; of a stream also "DR", "UR"
	Duration time.Duration
	// Heads and bodies, in bytes, as far as they passed.
	Request, Response uint64
	// Status is of gRPC, which is what was spoken if GRPC.
	GRPC   bool
	Status grpcStatus
}

// httpWatch follows the requests and responses of one HTTP connection as their
// bytes are relayed. When it cannot follow any more it stops, and the connection
// goes on.
type httpWatch struct {
	now  func() time.Time
	emit func(exchange)

	count atomic.Uint64
	gate  gate // shut while no new request may pass

	mu       sync.Mutex
	seen     uint64      // bytes from the upstream
	at       time.Time   // of the bytes that are being looked at, once asked for
	http1    *http1Watch // not nil while messages of HTTP/1 pass by
	http2    *http2Watch // not nil once one of the two speaks it
	switched bool        // the client does
	opaque   bool        // cannot be followed, or is no HTTP any more
}

// http1Watch follows the messages of an HTTP/1 connection for an httpWatch, whose
// lock guards it. A connection has none between its messages, when there is
// nothing to remember: most connections are silent most of the time.
type http1Watch struct {
	*httpWatch
	waiting []pending  // requests whose response has not ended
	one     [1]pending // what waiting is made of, as a rule
	// Of the messages that are passing by:
	method   string
	preface  bool // the request line is that of HTTP/2's preface
	started  time.Time
	nextCode int // of the response whose head is passing by
	code     int
	interim  bool // that response is a 1xx
	request  framer
	response framer
}

type pending struct {
	method string
	start  time.Time
	size   uint64 // once all of it has passed
}

func newHTTPWatch(now func() time.Time, emit func(exchange)) *httpWatch {
	return &httpWatch{now: now, emit: emit}
}

// http1Watches are those of connections that are silent by now.
var http1Watches = sync.Pool{New: func() any {
	h := new(http1Watch)
	h.waiting = h.one[:0]
	h.request.messages, h.response.messages = requests{h}, responses{h}
	return h
}}

// messages is what follows the messages of HTTP/1. Callers hold mu.
func (w *httpWatch) messages() *http1Watch {
	if w.http1 == nil {
		w.http1 = http1Watches.Get().(*http1Watch)
		w.http1.httpWatch = w
	}
	return w.http1
}

// heard ends a look at some bytes: what follows messages is given back if there
// are none. Callers hold mu.
func (w *httpWatch) heard(err error) {
	h := w.http1
	switch {
	case err != nil:
		w.giveUp()
	case h != nil && len(h.waiting) == 0 && h.request.state == stateIdle && h.response.state == stateIdle:
		w.http1, h.httpWatch = nil, nil
		http1Watches.Put(h)
	}
}

// fromClient takes what the client says, or returns what it has to wait for.
func (w *httpWatch) fromClient(p []byte) (hold <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	shut, over := w.gate.state()
	switch {
	case over: // these bytes reach nobody
	case shut != nil:
		return shut
	default:
		w.hear(p)
	}
	return nil
}

func (w *httpWatch) fromUpstream(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen += uint64(len(p))
	w.answer(p)
}

// hear follows the client. Callers hold mu.
func (w *httpWatch) hear(p []byte) {
	if w.opaque {
		return
	}
	w.at = time.Time{}
	var err error
	if !w.switched {
		if p, err = w.messages().request.feed(p); err == errHTTP2 {
			w.switched, w.http1, err = true, nil, nil
			if w.http2 == nil {
				w.http2 = newHTTP2Watch(w)
			}
		}
	}
	if w.switched {
		err = w.http2.client.feed(p)
	}
	w.heard(err)
}

// answer follows the upstream. A server of HTTP/2 may speak first; its first
// byte is of the length of a frame. Callers hold mu.
func (w *httpWatch) answer(p []byte) {
	if w.opaque || len(p) == 0 {
		return
	}
	w.at = time.Time{}
	if w.http2 == nil && p[0] == 0 && w.seen == uint64(len(p)) && w.count.Load() == 0 {
		w.http2 = newHTTP2Watch(w)
	}
	var err error
	if w.http2 != nil {
		err = w.http2.server.feed(p)
	} else {
		_, err = w.messages().response.feed(p)
	}
	w.heard(err)
}

// clock is the time, the same for all that comes in one piece.
func (w *httpWatch) clock() time.Time {
	if w.at.IsZero() {
		w.at = w.now()
	}
	return w.at
}

// giveUp stops watching and lets go of what it remembers.
func (w *httpWatch) giveUp() {
	w.opaque, w.http1, w.http2 = true, nil, nil
}

// finishFirst reports the oldest request. Callers hold mu, as all framer hooks do.
func (w *http1Watch) finishFirst(flags string) {
	if len(w.waiting) == 0 {
		return
	}
	first := w.waiting[0]
	if w.waiting = append(w.waiting[:0], w.waiting[1:]...); len(w.waiting) == 0 {
		w.waiting = w.one[:0] // there may have been more
	}
	x := exchange{Method: first.method, Code: w.code, Flags: flags, Duration: w.clock().Sub(first.start), Request: first.size, Response: w.response.total}
	if first.size == 0 && len(w.waiting) == 0 {
		x.Request = w.request.total // it is still being sent
	}
	w.emit(x)
	w.code, w.response.total = 0, 0
}

// finish reports what is still waiting when the connection has ended, with the
// code the proxy answered itself, or 0. broken are the flags for a request
// without a response: "UC" when the server went away, "DC" when the client did.
func (w *httpWatch) finish(code int, broken string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = time.Time{}
	if w.http2 != nil {
		w.http2.finish(code, broken)
	}
	h := w.http1
	if h == nil {
		return
	}
	if len(h.waiting) > 0 && h.response.state == stateUntilClose {
		h.finishFirst("-")
	}
	for len(h.waiting) > 0 {
		if code != 0 {
			h.code = code
		}
		h.finishFirst(broken)
	}
}

// hold lets no more requests pass, if requests have passed whole and wait for
// their responses, or for the last of them to be sent: sent is how many bytes
// were. Until the gate is open the client is not heard.
func (w *httpWatch) hold(sent uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.opaque || !w.owes(sent) {
		return false
	}
	if w.switched && !w.http2.canFinish() || w.http1 != nil && w.http1.request.state != stateIdle {
		return false
	}
	w.gate.shut()
	return true
}

// owes tells whether a response has not ended, or not been sent. Callers hold mu.
func (w *httpWatch) owes(sent uint64) bool {
	return w.http1 != nil && len(w.http1.waiting) > 0 || w.http2 != nil && len(w.http2.streams) > 0 || sent < w.seen
}

// finished tells whether no request waits for its response any more, when that
// many bytes have been sent to the client.
func (w *httpWatch) finished(sent uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.owes(sent)
}

// speaksHTTP2 is true once the client does.
func (w *httpWatch) speaksHTTP2() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.switched
}

// unanswered are the streams that are open where the client speaks HTTP/2, the newest
// there was, and how much of a body each may have.
func (w *httpWatch) unanswered() (streams []http2Stream, last, window uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.http2 == nil {
		return nil, 0, 0
	}
	return slices.Clone(w.http2.streams), w.http2.last, w.http2.window
}

// requests is how many were seen.
func (w *httpWatch) requests() uint64 { return w.count.Load() }

// stopped is true once there is nothing to follow any more, nor to hold.
func (w *httpWatch) stopped() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	shut, _ := w.gate.state()
	return w.opaque && shut == nil
}

// isHTTP is false for a connection that turned out to be something else.
func (w *httpWatch) isHTTP() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count.Load() > 0 || !w.opaque
}
