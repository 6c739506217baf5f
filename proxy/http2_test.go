package proxy

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"hasp/mesh"
)

// speaker writes the frames of one peer.
type speaker struct {
	bytes.Buffer
	*http2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder
}

func newSpeaker(client bool) *speaker {
	s := new(speaker)
	if client {
		s.WriteString(http2.ClientPreface)
	}
	s.Framer = http2.NewFramer(&s.Buffer, nil)
	s.AllowIllegalWrites = true
	s.enc = hpack.NewEncoder(&s.block)
	s.WriteSettings()
	return s
}

// encode makes a header block of names and values.
func (s *speaker) encode(fields ...string) []byte {
	s.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		s.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(s.block.Bytes())
}

func (s *speaker) headers(id uint32, end bool, fields ...string) {
	s.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: s.encode(fields...), EndStream: end, EndHeaders: true})
}

// take is what was written since the last time.
func (s *speaker) take() []byte {
	b := bytes.Clone(s.Bytes())
	s.Reset()
	return b
}

// A talk is two speakers and what the observer makes of them.
type talk2 struct {
	client, server *speaker
	w              *httpWatch
	got            []string
}

func newTalk2() *talk2 {
	k := &talk2{client: newSpeaker(true), server: newSpeaker(false)}
	k.w = newHTTPWatch(time.Now, func(x exchange) {
		k.got = append(k.got, fmt.Sprintf("%s %d %s grpc=%v/%s %d+%d", x.Method, x.Code, x.Flags, x.GRPC, x.Status, x.Request, x.Response))
	})
	return k
}

// pass has the observer see what was written, the client's first, in pieces of
// at most n bytes.
func (k *talk2) pass(n int) {
	for p := k.client.take(); len(p) > 0; p = p[min(n, len(p)):] {
		k.w.fromClient(p[:min(n, len(p))])
	}
	for p := k.server.take(); len(p) > 0; p = p[min(n, len(p)):] {
		k.w.fromUpstream(p[:min(n, len(p))])
	}
}

// get and post are requests of an application, call is one of gRPC.
func (k *talk2) get(id uint32, more ...string) {
	k.client.headers(id, true, append([]string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "boards"}, more...)...)
}

func (k *talk2) call(id uint32, end bool) {
	k.client.headers(id, false, ":method", "POST", ":scheme", "http", ":path", "/shop.Boards/List", ":authority", "boards", "content-type", "application/grpc", "te", "trailers")
	k.client.WriteData(id, end, []byte("\x00\x00\x00\x00\x05hello"))
}

func (k *talk2) answer(id uint32, status string) {
	k.server.headers(id, false, ":status", "200", "content-type", "application/grpc")
	k.server.WriteData(id, false, []byte("\x00\x00\x00\x00\x03bye"))
	k.server.headers(id, true, "grpc-status", status, "grpc-message", "")
}

var talks2 = []struct {
	name   string
	say    func(k *talk2)
	want   []string // without the sizes
	opaque bool
}{
	{"get", func(k *talk2) { k.get(1); k.server.headers(1, true, ":status", "204") }, []string{"GET 204 - grpc=false/"}, false},
	{"get with a body", func(k *talk2) {
		k.get(1)
		k.server.headers(1, false, ":status", "200")
		k.server.WriteData(1, false, make([]byte, 10000))
		k.server.WriteData(1, true, nil)
	}, []string{"GET 200 - grpc=false/"}, false},
	{"grpc", func(k *talk2) { k.call(1, true); k.answer(1, "0") }, []string{"POST 200 - grpc=true/0"}, false},
	{"grpc that fails at once", func(k *talk2) {
		k.call(1, true)
		k.server.headers(1, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "12")
	}, []string{"POST 200 - grpc=true/12"}, false},
	{"a status nobody knows", func(k *talk2) { k.call(1, true); k.answer(1, "99999") }, []string{"POST 200 - grpc=true/2"}, false},
	{"grpc-web is not grpc", func(k *talk2) {
		k.get(1, "content-type", "application/grpc-web")
		k.server.headers(1, true, ":status", "200")
	}, []string{"GET 200 - grpc=false/"}, false},
	{"interim", func(k *talk2) {
		k.get(1)
		k.server.headers(1, false, ":status", "103", "link", "</style.css>")
		k.server.headers(1, true, ":status", "404")
	}, []string{"GET 404 - grpc=false/"}, false},
	{"answered in another order", func(k *talk2) {
		k.get(1)
		k.call(3, true)
		k.get(5)
		k.server.headers(5, true, ":status", "500")
		k.answer(3, "0")
		k.server.headers(1, true, ":status", "200")
	}, []string{"GET 500 - grpc=false/", "POST 200 - grpc=true/0", "GET 200 - grpc=false/"}, false},
	{"request trailers", func(k *talk2) {
		k.call(1, false)
		k.client.headers(1, true, "checksum", "1")
		k.answer(1, "0")
		k.client.headers(1, true, "checksum", "2") // too late, and not another request
	}, []string{"POST 200 - grpc=true/0"}, false},
	{"reset by the client", func(k *talk2) { k.get(1); k.client.WriteRSTStream(1, http2.ErrCodeCancel) }, []string{"GET 0 DR grpc=false/"}, false},
	{"reset by the server", func(k *talk2) {
		k.get(1)
		k.server.headers(1, false, ":status", "200")
		k.server.WriteRSTStream(1, http2.ErrCodeInternal)
	}, []string{"GET 200 UR grpc=false/"}, false},
	{"answered, then told to stop", func(k *talk2) {
		k.call(1, false)
		k.answer(1, "8")
		k.server.WriteRSTStream(1, http2.ErrCodeNo)
		k.client.WriteData(1, true, []byte("late"))
	}, []string{"POST 200 - grpc=true/8"}, false},
	{"go away", func(k *talk2) {
		k.get(1)
		k.get(3)
		k.get(5)
		k.server.WriteGoAway(1, http2.ErrCodeNo, []byte("going"))
		k.server.headers(1, true, ":status", "200")
	}, []string{"GET 0 UR grpc=false/", "GET 0 UR grpc=false/", "GET 200 - grpc=false/"}, false},
	{"go away in time", func(k *talk2) {
		k.get(1)
		k.server.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil)
		k.server.headers(1, true, ":status", "200")
	}, []string{"GET 200 - grpc=false/"}, false},
	{"continued, padded, with priority", func(k *talk2) {
		b := k.client.encode(":method", "DELETE", ":path", "/"+strings.Repeat("x", 300))
		k.client.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:2], PadLength: 7, Priority: http2.PriorityParam{StreamDep: 3, Weight: 9}})
		k.client.WriteContinuation(1, false, nil)
		k.client.WriteContinuation(1, false, b[2:3])
		k.client.WriteContinuation(1, true, b[3:])
		k.client.WriteDataPadded(1, true, []byte("x"), make([]byte, 99))
		k.server.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: k.server.encode(":status", "202"), EndHeaders: true, EndStream: true, PadLength: 255})
	}, []string{"DELETE 202 - grpc=false/"}, false},
	{"pushed", func(k *talk2) {
		k.get(1)
		k.server.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: k.server.encode(":method", "GET", ":path", "/style.css", "x-new", "entry", "grpc-status", "1"), EndHeaders: true, PadLength: 3})
		k.server.headers(2, true, ":status", "200", "x-new", "entry")
		k.server.headers(1, true, ":status", "201", "x-new", "entry")
	}, []string{"GET 201 - grpc=false/"}, false},
	{"all that is not looked at", func(k *talk2) {
		k.client.WriteSettingsAck()
		k.client.WritePing(false, [8]byte{})
		k.client.WriteWindowUpdate(0, 1<<20)
		k.client.WriteRawFrame(0xbe, 0xff, 7, make([]byte, 300))
		k.client.WritePriority(1, http2.PriorityParam{StreamDep: 3})
		k.client.WriteGoAway(0, http2.ErrCodeNo, nil)
		k.get(1)
		k.server.WriteRawFrame(0xbe, 0, 1, nil)
		k.server.headers(1, true, ":status", "200")
	}, []string{"GET 200 - grpc=false/"}, false},
	{"larger tables", func(k *talk2) {
		for _, s := range []*speaker{k.client, k.server} {
			s.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 1 << 16})
			s.enc.SetMaxDynamicTableSizeLimit(1 << 16)
			s.enc.SetMaxDynamicTableSize(1 << 16)
		}
		for id := uint32(1); id < 400; id += 2 {
			k.get(id, "x-id", fmt.Sprint(id, strings.Repeat("y", 90)), "x-old", fmt.Sprint(id/200))
			k.server.headers(id, true, ":status", "200")
		}
	}, slicesRepeat("GET 200 - grpc=false/", 200), false},
	{"no table", func(k *talk2) {
		k.client.enc.SetMaxDynamicTableSize(0)
		k.get(1, "x-id", "1")
		k.get(3, "x-id", "1")
		k.server.headers(3, true, ":status", "200")
		k.server.headers(1, true, ":status", "200")
	}, []string{"GET 200 - grpc=false/", "GET 200 - grpc=false/"}, false},
	{"left unanswered", func(k *talk2) { k.get(1); k.get(3); k.server.headers(3, false, ":status", "200") }, []string{"GET 0 UC grpc=false/", "GET 200 UC grpc=false/"}, false},
	{"an endless method", func(k *talk2) {
		k.client.headers(1, true, ":method", strings.Repeat("M", 1000))
		k.server.headers(1, true, ":status", "501")
	}, []string{strings.Repeat("M", maxMethod) + " 501 - grpc=false/"}, false},

	{"a table that is too large", func(k *talk2) {
		k.client.enc.SetMaxDynamicTableSizeLimit(1 << 20)
		k.client.enc.SetMaxDynamicTableSize(1 << 20)
		k.get(1)
	}, nil, true},
	{"a header that is too large", func(k *talk2) {
		k.client.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, maxHeaderBlock+1), EndHeaders: true})
	}, nil, true},
	{"a header without end", func(k *talk2) {
		k.client.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, 16000)})
		for range 4 {
			k.client.WriteContinuation(1, false, make([]byte, 16000))
		}
	}, nil, true},
	{"continued by something else", func(k *talk2) {
		k.client.WriteHeaders(http2.HeadersFrameParam{StreamID: 1})
		k.client.WriteData(1, false, nil)
	}, nil, true},
	{"continued on another stream", func(k *talk2) {
		k.client.WriteHeaders(http2.HeadersFrameParam{StreamID: 1})
		k.client.WriteContinuation(3, true, nil)
	}, nil, true},
	{"nothing to continue", func(k *talk2) { k.client.WriteContinuation(1, true, nil) }, nil, true},
	{"all padding", func(k *talk2) {
		k.client.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersPadded|http2.FlagHeadersEndHeaders, 1, []byte{9, 1, 2})
	}, nil, true},
	{"padding without a length", func(k *talk2) {
		k.client.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersPadded|http2.FlagHeadersEndHeaders, 1, nil)
	}, nil, true},
	{"no HPACK", func(k *talk2) {
		k.client.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff}, EndHeaders: true})
	}, nil, true},
	{"half a field", func(k *talk2) {
		k.client.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x40, 9, 'x'}, EndHeaders: true})
	}, nil, true},
	{"headers of no stream", func(k *talk2) { k.client.headers(0, true, ":method", "GET") }, nil, true},
	{"a short reset", func(k *talk2) { k.client.WriteRawFrame(http2.FrameRSTStream, 0, 1, []byte{1}) }, nil, true},
	{"a short farewell", func(k *talk2) { k.server.WriteRawFrame(http2.FrameGoAway, 0, 0, []byte{1}) }, nil, true},
	{"an answer of HTTP/1", func(k *talk2) { k.server.Reset(); k.server.WriteString("HTTP/1.1 400 Bad Request\r\n\r\n") }, nil, true},
	{"another preface", func(k *talk2) {
		k.client.Reset()
		k.client.WriteString("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
	}, nil, true},
}

func slicesRepeat(s string, n int) (out []string) {
	for range n {
		out = append(out, s)
	}
	return out
}

func TestHTTP2Observer(t *testing.T) {
	for _, tc := range talks2 {
		for _, piece := range []int{1 << 20, 7, 1} {
			k := newTalk2()
			tc.say(k)
			k.pass(piece)
			k.w.finish(0, "UC")
			for i, s := range k.got {
				k.got[i] = s[:strings.LastIndexByte(s, ' ')]
			}
			if diff := cmp.Diff(tc.want, k.got); diff != "" || k.w.opaque != tc.opaque {
				t.Errorf("%s, in pieces of %d: opaque %v, exchanges (-want +got):\n%s", tc.name, piece, k.w.opaque, diff)
			}
		}
	}
}

// A gRPC call and its answer, seen, counted and entered in the ledger.
func BenchmarkHTTP2Watch(b *testing.B) {
	p, r := benchRow(b, mesh.GRPC)
	o := p.observe(r, p.metrics.identify(r, p.settings.Load()))
	k := newTalk2()
	var calls, answers [][]byte
	for id := uint32(1); id <= 1+2*64; id += 2 {
		k.call(id, true)
		calls = append(calls, k.client.take())
		k.answer(id, "0")
		answers = append(answers, k.server.take())
	}
	o.FromClient(calls[0]) // the tables are full
	o.FromUpstream(answers[0])
	calls, answers = calls[1:], answers[1:]
	b.SetBytes(int64(len(calls[0]) + len(answers[0])))
	b.ReportAllocs()
	start, i := cpuTime(b), 0
	for b.Loop() {
		if i%len(calls) == 0 {
			o.http.http2.last = 1 // the ids begin again
		}
		o.FromClient(calls[i%len(calls)])
		o.FromUpstream(answers[i%len(calls)])
		i++
	}
	b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N), "cpu-ns/op")
	if n := r.account.requests.Load(); n != uint64(b.N)+1 {
		b.Fatalf("counted %d calls of %d", n, b.N+1)
	}
}
