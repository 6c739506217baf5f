package proxy

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hasp/mesh"
)

func TestRequestLogLines(t *testing.T) {
	q := requestLog{
		Start: time.Date(2026, 11, 29, 20, 0, 0, 0, time.UTC), Source: "192.0.2.7:4711", Method: "GET", Host: "shop.example", Path: "/", Protocol: "HTTP/1.1",
		Code: 503, Flags: "UF", RequestID: "7", Duration: time.Millisecond, Why: "tls to 10.0.0.1:8080: ...",
	}
	q.tell(mesh.Connection{
		Upstream: netip.MustParseAddrPort("10.0.0.1:8080"), Security: mesh.Unknown, Generation: 3, Trace: "0123456789abcdef",
		Failure: &mesh.Failure{Reason: mesh.ReasonWrongIdentity},
	})
	var b strings.Builder
	newAccessLog(&b).request(mesh.LogText, &q)
	want := `[2026-11-29T20:00:00.000Z] "GET / HTTP/1.1" 503 UF source=192.0.2.7:4711 host="shop.example" sent=0 duration=1ms id="7" upstream=10.0.0.1:8080 unknown generation=3 trace=0123456789abcdef reason=wrong_identity why="tls to 10.0.0.1:8080: ..."
`
	if got := b.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	b.Reset()
	newAccessLog(&b).request(mesh.LogJSON, &q)
	var back requestLog
	if err := json.Unmarshal([]byte(b.String()), &back); err != nil || back != q {
		t.Errorf("%v: %s", err, b.String())
	}
	q = requestLog{Start: q.Start, Method: "GET", Path: "/", Protocol: "HTTP/1.1", Code: 404, Flags: "NR"} // went nowhere
	if got := requestLine(&q); strings.Contains(got, "trace=") || strings.Contains(got, "reason=") {
		t.Errorf("%s", got)
	}
}
