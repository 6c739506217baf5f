package proxy

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
)

// maxStreams bounds the streams of a connection that are followed at a time.
// Others are seen, but not how they end.
const maxStreams = 512

// http2Watch follows the streams of an HTTP/2 connection for an httpWatch, whose
// lock guards it.
type http2Watch struct {
	w       *httpWatch
	client  http2Framer
	server  http2Framer
	streams []http2Stream // that are open, by id
	last    uint32        // the newest one's
	lost    bool          // there were more than maxStreams
	said    http2Fields   // in the header block that is passing by
	window  uint32        // how much the client lets a stream have at first
}

// http2Stream is a request whose response has not ended.
type http2Stream struct {
	id                uint32
	code              int
	grpc              bool
	status            grpcStatus
	sent              bool // all of the request has passed
	method            string
	start             time.Time
	request, response uint64
}

// http2Fields are the fields of a header block that matter.
type http2Fields struct {
	method string
	code   int
	grpc   bool
	status grpcStatus
}

func newHTTP2Watch(w *httpWatch) *http2Watch {
	h := &http2Watch{w: w, window: initialWindow}
	h.client.frames, h.server.frames = http2Client{h}, http2Server{h}
	// The framer of HTTP/1 has seen what of the preface looks like HTTP/1.
	h.client.preface = strings.TrimPrefix(http2.ClientPreface, http2Preface)
	return h
}

// http2Preface is the part of the preface that is a request's head.
const http2Preface = "PRI * HTTP/2.0\r\n\r\n"

// field takes a field of a header block.
func (h *http2Watch) field(f hpack.HeaderField) {
	switch f.Name {
	case ":method":
		h.said.method = methodOf(f.Value)
	case ":status":
		h.said.code = statusCode(f.Value)
	case "content-type":
		h.said.grpc = isGRPC(f.Value)
	case "grpc-status":
		h.said.status = parseStatus(f.Value)
	}
}

// heard is what the header block that has passed said.
func (h *http2Watch) heard() http2Fields {
	said := h.said
	h.said = http2Fields{}
	return said
}

// promised forgets what a PUSH_PROMISE said: what a server pushes, nobody asked
// for.
func (h *http2Watch) promised() { h.heard() }

// find is a stream that is open, or nil, and where it stands.
func (h *http2Watch) find(id uint32) (*http2Stream, int) {
	i := len(h.streams) - 1 // as a rule
	if i < 0 || h.streams[i].id != id {
		var ok bool
		i, ok = slices.BinarySearchFunc(h.streams, id, func(s http2Stream, id uint32) int { return cmp.Compare(s.id, id) })
		if !ok {
			return nil, i
		}
	}
	return &h.streams[i], i
}

// end reports a stream, if it is open.
func (h *http2Watch) end(id uint32, flags string) {
	if s, i := h.find(id); s != nil {
		h.endAt(i, flags)
	}
}

func (h *http2Watch) endAt(i int, flags string) {
	s := h.streams[i]
	if h.streams = slices.Delete(h.streams, i, i+1); len(h.streams) == 0 && cap(h.streams) > 16 {
		h.streams = nil
	}
	h.w.emit(exchange{
		Method: s.method, Code: s.code, Flags: flags, Duration: h.w.clock().Sub(s.start),
		Request: s.request, Response: s.response, GRPC: s.grpc, Status: s.status,
	})
}

// finish reports all streams that are open, with the code that the proxy answered
// itself, or 0.
func (h *http2Watch) finish(code int, flags string) {
	for len(h.streams) > 0 {
		switch s := &h.streams[0]; {
		case code == 0:
		case s.grpc:
			s.code, s.status = http.StatusOK, statusOf(codes.Unavailable)
		default:
			s.code = code
		}
		h.endAt(0, flags)
	}
}

// canFinish tells whether the client may be held: the server has all it needs to
// finish what is open.
func (h *http2Watch) canFinish() bool {
	return !h.lost && h.client.between() && !slices.ContainsFunc(h.streams, func(s http2Stream) bool { return !s.sent })
}

// http2Client and http2Server are a watch as what the frames of a direction tell.
type (
	http2Client struct{ *http2Watch }
	http2Server struct{ *http2Watch }
)

func (h http2Client) setting(s http2.Setting) {
	if s.ID == http2.SettingInitialWindowSize {
		h.window = s.Val
	}
}

func (h http2Client) headers(id uint32, end bool, size uint64) {
	said := h.heard()
	s, _ := h.find(id)
	if s == nil {
		if id%2 == 0 || id <= h.last { // of a stream that has been answered
			return
		}
		h.last = id
		h.w.count.Add(1)
		if len(h.streams) >= maxStreams {
			h.lost = true
			return
		}
		h.streams = append(h.streams, http2Stream{id: id, method: said.method, grpc: said.grpc, start: h.w.clock()})
		s = &h.streams[len(h.streams)-1]
	}
	s.request += size
	s.sent = s.sent || end
}

func (h http2Client) data(id uint32, size uint64) {
	if s, _ := h.find(id); s != nil {
		s.request += size
	}
}

func (h http2Client) ended(id uint32) {
	if s, _ := h.find(id); s != nil {
		s.sent = true
	}
}

func (h http2Client) reset(id uint32) { h.end(id, "DR") }

func (h http2Client) goAway(uint32) {} // about what servers push

func (h http2Server) setting(http2.Setting) {}

func (h http2Server) headers(id uint32, end bool, size uint64) {
	said := h.heard()
	s, i := h.find(id)
	if s == nil {
		return
	}
	s.response += size
	if said.code >= 200 {
		s.code = said.code
	}
	if said.status != 0 {
		s.status = said.status
	}
	if end {
		h.endAt(i, "-")
	}
}

func (h http2Server) data(id uint32, size uint64) {
	if s, _ := h.find(id); s != nil {
		s.response += size
	}
}

func (h http2Server) ended(id uint32) { h.end(id, "-") }
func (h http2Server) reset(id uint32) { h.end(id, "UR") }

// goAway ends the streams that the server says it has not taken.
func (h http2Server) goAway(last uint32) {
	for n := len(h.streams); n > 0 && h.streams[n-1].id > last; n = len(h.streams) {
		h.endAt(n-1, "UR")
	}
}
