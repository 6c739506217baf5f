package proxy

import (
	"strconv"
	"strings"
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
	Flags    string // Envoy's response flags: "-", "DC", "UC"
	Duration time.Duration
	// Heads and bodies, in bytes, as far as they passed.
	Request, Response uint64
}

// httpWatch follows the requests and responses of one HTTP/1 connection as
// their bytes are relayed. When it cannot follow any more it stops, and the
// connection goes on.
type httpWatch struct {
	now  func() time.Time
	emit func(exchange)

	count atomic.Uint64
	gate  gate // shut while no new request may pass

	mu       sync.Mutex
	seen     uint64    // bytes from the upstream
	opaque   bool      // cannot be followed, or is no HTTP any more
	waiting  []pending // requests whose response has not ended
	started  time.Time // of the request whose head is passing by
	code     int       // of the response that is passing by
	interim  bool      // that response is a 1xx
	request  framer
	response framer
}

type pending struct {
	method string
	start  time.Time
	size   uint64 // once all of it has passed
}

func newHTTPWatch(now func() time.Time, emit func(exchange)) *httpWatch {
	w := &httpWatch{now: now, emit: emit}
	nothing := func() {}
	requestDone := func() {
		if n := len(w.waiting); n > 0 {
			w.waiting[n-1].size = w.request.total
		}
	}
	w.request = framer{begin: func() { w.started = w.now() }, head: w.requestHead, done: requestDone}
	w.response = framer{begin: nothing, head: w.responseHead, done: w.responseDone}
	return w
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
		w.feed(&w.request, p)
	}
	return nil
}

func (w *httpWatch) fromUpstream(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen += uint64(len(p))
	w.feed(&w.response, p)
}

// feed follows a direction. Callers hold mu.
func (w *httpWatch) feed(f *framer, p []byte) {
	if w.opaque {
		return
	}
	if err := f.feed(p); err != nil {
		w.giveUp()
	}
}

// giveUp stops watching and lets go of what it remembers.
func (w *httpWatch) giveUp() {
	w.opaque = true
	w.waiting, w.request.line, w.response.line = nil, nil, nil
}

func (w *httpWatch) requestHead(h *msgHead) bodyKind {
	method, rest, ok := strings.Cut(h.start, " ")
	if !ok || !strings.HasPrefix(rest[strings.LastIndexByte(rest, ' ')+1:], "HTTP/1.") || len(w.waiting) >= maxPipelined {
		w.giveUp() // HTTP/2's preface lands here too
		return bodyOpaque
	}
	w.count.Add(1)
	w.waiting = append(w.waiting, pending{method: method, start: w.started})
	return bodyByHead
}

func (w *httpWatch) responseHead(h *msgHead) bodyKind {
	proto, rest, _ := strings.Cut(h.start, " ")
	word, _, _ := strings.Cut(rest, " ")
	code, err := strconv.Atoi(word)
	if err != nil || len(word) != 3 || code < 100 || !strings.HasPrefix(proto, "HTTP/1.") || len(w.waiting) == 0 {
		w.giveUp()
		return bodyOpaque
	}
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

func (w *httpWatch) responseDone() {
	if !w.interim {
		w.finishFirst("-")
	}
}

// finishFirst reports the oldest request. Callers hold mu, as all framer hooks do.
func (w *httpWatch) finishFirst(flags string) {
	if len(w.waiting) == 0 {
		return
	}
	first := w.waiting[0]
	w.waiting = append(w.waiting[:0], w.waiting[1:]...)
	x := exchange{Method: first.method, Code: w.code, Flags: flags, Duration: w.now().Sub(first.start), Request: first.size, Response: w.response.total}
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
	if len(w.waiting) > 0 && w.response.state == stateUntilClose {
		w.finishFirst("-")
	}
	for len(w.waiting) > 0 {
		if code != 0 {
			w.code = code
		}
		w.finishFirst(broken)
	}
}

// hold lets no more requests pass, if requests have passed whole and wait for
// their responses, or for the last of them to be sent: sent is how many bytes
// were. Until the gate is open the client is not heard.
func (w *httpWatch) hold(sent uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.opaque || len(w.waiting) == 0 && sent >= w.seen || w.request.state != stateIdle {
		return false
	}
	w.gate.shut()
	return true
}

// finished tells whether no request waits for its response any more, when that
// many bytes have been sent to the client.
func (w *httpWatch) finished(sent uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting) == 0 && sent >= w.seen
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

// gate is open at first.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // not nil while it is shut; closed when it opens
	over   bool
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed == nil && !g.over {
		g.closed = make(chan struct{})
	}
}

// open lets go who waits; over says that the connection has ended.
func (g *gate) open(over bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = over
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
}

// state has a channel while the gate is shut, which ends when it opens.
func (g *gate) state() (shut <-chan struct{}, over bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed, g.over
}
