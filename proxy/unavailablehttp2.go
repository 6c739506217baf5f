package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
)

// An HTTP/2 client whose service cannot be reached is answered as a server would:
// first SETTINGS, without which a client of gRPC asks nothing; then, on the stream of
// each request that it has made, a response; and GOAWAY, so that it makes a new
// connection for what it asks next. A request of gRPC gets gRPC's status UNAVAILABLE,
// any other one a 503, as from Envoy.

// maxReason bounds what a header field says of why.
const maxReason = 1024

// greetHTTP2 is a server's SETTINGS, which set nothing.
var greetHTTP2 = []byte{0, 0, 0, byte(http2.FrameSettings), 0, 0, 0, 0, 0}

// refusal is what answers the open streams of a client that was greeted; window is
// how much of a body a stream may have.
func refusal(streams []http2Stream, last, window uint32, trace, reason string, now time.Time) []byte {
	var out, block bytes.Buffer
	f := http2.NewFramer(&out, nil)
	_ = f.WriteSettingsAck() // a buffer takes everything
	enc := hpack.NewEncoder(&block)
	enc.SetMaxDynamicTableSize(0) // whatever the client's decoder may remember
	body := unavailable(reason[:min(len(reason), maxReason)], trace)
	left := uint32(initialWindow) // of the connection's window
	for i := range streams {
		s := &streams[i]
		block.Reset()
		field := func(name, value string) { _ = enc.WriteField(hpack.HeaderField{Name: name, Value: value}) }
		said := ""
		if s.grpc {
			field(":status", "200")
			field("content-type", "application/grpc")
			field("grpc-status", strconv.Itoa(int(codes.Unavailable)))
			field("grpc-message", percentEncoded(body))
		} else {
			if n := uint32(len(body)); s.method != http.MethodHead && n <= window && n <= left {
				said, left = body, left-n
			}
			field(":status", strconv.Itoa(http.StatusServiceUnavailable))
			if said != "" {
				field("content-length", strconv.Itoa(len(said)))
				field("content-type", "text/plain")
			}
		}
		field("date", now.UTC().Format(http.TimeFormat))
		field("server", "hasp")
		field(traceHeader, trace)
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: said == ""})
		if said != "" {
			_ = f.WriteData(s.id, true, []byte(said))
		}
		// No RST_STREAM to one that is still sending: curl 7.88 loses the response then.
	}
	_ = f.WriteGoAway(last, http2.ErrCodeNo, nil)
	return out.Bytes()
}

// percentEncoded is a text as the field grpc-message has it: what is not printable
// ASCII by its bytes in hexadecimal.
func percentEncoded(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
