package proxy

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// pieces cuts up what passes between two peers: a byte says whose the next bytes
// are and how many, and they follow.
func pieces(b []byte, client, upstream func([]byte)) {
	for len(b) > 0 {
		n, to := int(b[0]>>1), client
		if b[0]&1 == 1 {
			to = upstream
		}
		b = b[1:]
		if n = min(n, len(b)); n > 0 {
			to(b[:n])
		}
		b = b[n:]
	}
}

// pack is the reverse of pieces.
func pack(to []byte, upstream byte, b []byte) []byte {
	for len(b) > 0 {
		n := min(len(b), 127)
		to = append(to, byte(n)<<1|upstream)
		to = append(to, b[:n]...)
		b = b[n:]
	}
	return to
}

// Whatever two peers say: no panic, bounded memory, and the outcome does not
// depend on where the pieces are cut.
func FuzzHTTP2Watch(f *testing.F) {
	for _, tc := range talks2 {
		k := newTalk2()
		tc.say(k)
		if b := pack(pack(nil, 0, k.client.take()), 1, k.server.take()); len(b) < 4096 {
			f.Add(b)
			f.Add(append(pack(nil, 1, newSpeaker(false).take()), b...))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		run := func(atATime int) (out []string, opaque bool) {
			w := newHTTPWatch(time.Now, func(x exchange) {
				x.Duration = 0
				out = append(out, fmt.Sprint(x))
			})
			cut := func(feed func([]byte)) func([]byte) {
				return func(p []byte) {
					for ; len(p) > 0; p = p[min(len(p), atATime):] {
						feed(p[:min(len(p), atATime)])
					}
				}
			}
			pieces(b, cut(func(p []byte) { w.fromClient(p) }), cut(w.fromUpstream))
			if h := w.http2; h != nil && (cap(h.streams) > 2*maxStreams || cap(h.client.block) > 2*maxHeaderBlock || cap(h.server.block) > 2*maxHeaderBlock) {
				t.Errorf("remembers %d streams, %d and %d bytes", cap(h.streams), cap(h.client.block), cap(h.server.block))
			}
			w.finish(0, "UC")
			return out, w.opaque
		}
		whole, opaque := run(len(b) + 1)
		drops, opaqueToo := run(1)
		if diff := cmp.Diff(whole, drops); diff != "" || opaque != opaqueToo {
			t.Errorf("opaque %v and %v, exchanges (-whole +drops):\n%s", opaque, opaqueToo, diff)
		}
	})
}

// reader2 is one direction as x/net's own framer reads it.
type reader2 struct {
	bytes.Buffer
	fr  *http2.Framer
	dec *hpack.Decoder
}

func newReader2() *reader2 {
	r := new(reader2)
	r.fr = http2.NewFramer(io.Discard, &r.Buffer)
	r.fr.AllowIllegalReads = true // the order of frames is for the observer to judge
	r.dec = hpack.NewDecoder(4096, nil)
	r.dec.SetAllowedMaxDynamicTableSize(1 << 16)
	return r
}

// frame2 is a frame as read, header blocks put together.
type frame2 struct {
	kind   http2.FrameType
	stream uint32
	end    bool // of the stream
	size   uint64
	fields map[string]string
	last   uint32 // of a GOAWAY
}

// next is the next frame of what has passed.
func (r *reader2) next(t *testing.T) frame2 {
	read := func() http2.Frame {
		f, err := r.fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := read()
	h := f.Header()
	out := frame2{kind: h.Type, stream: h.StreamID, size: uint64(h.Length)}
	var block []byte
	whole := true
	switch f := f.(type) {
	case *http2.DataFrame:
		out.end = f.StreamEnded()
	case *http2.GoAwayFrame:
		out.last = f.LastStreamID
	case *http2.HeadersFrame:
		block, whole, out.end = bytes.Clone(f.HeaderBlockFragment()), f.HeadersEnded(), f.StreamEnded()
	case *http2.PushPromiseFrame:
		block, whole = bytes.Clone(f.HeaderBlockFragment()), f.HeadersEnded()
	}
	for !whole {
		c := read().(*http2.ContinuationFrame)
		block, whole = append(block, c.HeaderBlockFragment()...), c.HeadersEnded()
		out.size += uint64(c.Length)
	}
	fields, err := r.dec.DecodeFull(block)
	if err != nil {
		t.Fatal(err)
	}
	out.fields = make(map[string]string)
	for _, f := range fields {
		out.fields[f.Name] = f.Value
	}
	return out
}

// model2 makes exchanges of frames, by other means than the observer.
type model2 struct {
	newest uint32
	open   map[uint32]*exchange
	out    []string
}

func (m *model2) done(id uint32, flags string) {
	if x := m.open[id]; x != nil {
		x.Flags = flags
		m.out = append(m.out, fmt.Sprint(*x))
		delete(m.open, id)
	}
}

func (m *model2) client(f frame2) {
	x := m.open[f.stream]
	switch f.kind {
	case http2.FrameHeaders:
		if x == nil && f.stream > m.newest {
			m.newest = f.stream
			x = &exchange{Method: f.fields[":method"], GRPC: f.fields["content-type"] == "application/grpc"}
			m.open[f.stream] = x
		}
		fallthrough
	case http2.FrameData:
		if x != nil {
			x.Request += f.size
		}
	case http2.FrameRSTStream:
		m.done(f.stream, "DR")
	}
}

func (m *model2) server(f frame2) {
	x := m.open[f.stream]
	switch f.kind {
	case http2.FrameHeaders, http2.FrameData:
		if x == nil {
			return
		}
		x.Response += f.size
		var code int
		if fmt.Sscan(f.fields[":status"], &code); code >= 200 {
			x.Code = code
		}
		if s, ok := f.fields["grpc-status"]; ok {
			fmt.Sscan(s, &x.Status)
			x.Status++
		}
		if f.end {
			m.done(f.stream, "-")
		}
	case http2.FrameRSTStream:
		m.done(f.stream, "UR")
	case http2.FrameGoAway:
		for id := m.newest; id > f.last; id-- {
			m.done(id, "UR")
		}
	}
}

// drawer draws what two peers say.
type drawer struct {
	*rand.Rand
	*talk2
	ids uint32 // of the client's streams so far
}

func (d *drawer) id() uint32 { return 1 + 2*uint32(d.IntN(int(d.ids/2)+2)) }

// headers writes a header block in any number of frames.
func (d *drawer) headers(s *speaker, id uint32, fields ...string) {
	for range d.IntN(4) {
		fields = append(fields, fmt.Sprint("x-", d.IntN(9)), fmt.Sprint(d.IntN(3)))
	}
	if d.IntN(8) == 0 {
		fields = append(fields, "x-long", string(bytes.Repeat([]byte("long "), d.IntN(2000))))
	}
	if d.IntN(8) == 0 {
		s.enc.SetMaxDynamicTableSizeLimit(maxDynamicTable)
		s.enc.SetMaxDynamicTableSize(uint32(d.IntN(maxDynamicTable)))
	}
	b := s.encode(fields...)
	var frames [][]byte
	for d.IntN(3) == 0 {
		n := d.IntN(len(b) + 1)
		frames, b = append(frames, b[:n]), b[n:]
	}
	for len(b) > 16000 {
		frames, b = append(frames, b[:16000]), b[16000:]
	}
	frames = append(frames, b)
	last := len(frames) - 1
	if s == d.server && d.IntN(8) == 0 {
		s.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, BlockFragment: frames[0], EndHeaders: last == 0, PadLength: uint8(d.IntN(256))})
	} else {
		p := http2.HeadersFrameParam{StreamID: id, BlockFragment: frames[0], EndHeaders: last == 0, EndStream: d.IntN(2) == 0}
		if d.IntN(3) == 0 {
			p.PadLength = uint8(d.IntN(256))
		}
		if d.IntN(3) == 0 {
			p.Priority = http2.PriorityParam{StreamDep: 9, Weight: 1}
		}
		s.WriteHeaders(p)
	}
	for i, b := range frames[1:] {
		s.WriteContinuation(id, i+1 == last, b)
	}
}

// either writes what both peers may.
func (d *drawer) either(s *speaker) {
	id := d.id()
	switch d.IntN(9) {
	case 0:
		s.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: d.Uint32N(maxDynamicTable)}, http2.Setting{ID: 0xff, Val: 1})
	case 1:
		s.WriteSettingsAck()
	case 2:
		s.WritePing(true, [8]byte{1})
	case 3:
		s.WriteWindowUpdate(id, 1+d.Uint32N(1000))
	case 4:
		s.WriteRawFrame(http2.FrameType(0x20+d.IntN(200)), http2.Flags(d.IntN(256)), d.Uint32(), make([]byte, d.IntN(99)))
	case 5:
		s.WriteRSTStream(id, http2.ErrCodeCancel)
	case 6:
		s.WriteDataPadded(id, d.IntN(2) == 0, make([]byte, d.IntN(9999)), make([]byte, d.IntN(256)))
	default:
		s.WriteData(id, d.IntN(2) == 0, make([]byte, d.IntN(99)))
	}
}

func (d *drawer) clientSays() {
	if d.IntN(2) == 0 {
		d.either(d.client)
		return
	}
	id := d.id()
	if id > d.ids {
		d.ids = id
	}
	kind := []string{"text/plain", "application/grpc", "application/json"}[d.IntN(3)]
	d.headers(d.client, id, ":method", []string{"GET", "POST", "PUT"}[d.IntN(3)], ":path", fmt.Sprint("/", d.IntN(99)), "content-type", kind)
}

func (d *drawer) serverSays() {
	switch d.IntN(20) {
	case 0:
		d.server.WriteGoAway(d.id(), http2.ErrCodeNo, make([]byte, d.IntN(99)))
	case 1, 2, 3, 4, 5, 6, 7, 8:
		d.either(d.server)
	case 9, 10, 11:
		d.headers(d.server, d.id(), "grpc-status", fmt.Sprint(d.IntN(17)))
	default:
		d.headers(d.server, d.id(), ":status", fmt.Sprint(100+d.IntN(450)))
	}
}

// What peers say who know the protocol, drawn and cut at random, is seen as a
// reader of whole frames sees it.
func TestHTTP2ObserverAgainstFramer(t *testing.T) {
	var total int
	for seed := range uint64(300) {
		d := &drawer{Rand: rand.New(rand.NewPCG(seed, 0)), talk2: newTalk2()}
		var got []string
		d.w.emit = func(x exchange) {
			x.Duration = 0
			got = append(got, fmt.Sprint(x))
		}
		m := &model2{open: make(map[uint32]*exchange)}
		client, server := newReader2(), newReader2()
		first := d.client.take()
		client.Write(first[len(http2.ClientPreface):])
		d.w.fromClient(first)
		pass := func(b []byte, feed func([]byte), r *reader2, do func(frame2)) {
			r.Write(b)
			for len(b) > 0 {
				n := 1 + d.IntN(len(b))
				feed(b[:n])
				b = b[n:]
			}
			for r.Len() > 0 {
				do(r.next(t))
			}
		}
		for range 100 {
			for range d.IntN(4) {
				d.clientSays()
			}
			pass(d.client.take(), func(p []byte) { d.w.fromClient(p) }, client, m.client)
			for range d.IntN(4) {
				d.serverSays()
			}
			pass(d.server.take(), d.w.fromUpstream, server, m.server)
		}
		if diff := cmp.Diff(m.out, got); diff != "" || d.w.opaque || len(d.w.http2.streams) != len(m.open) {
			t.Fatalf("seed %d: opaque %v, exchanges (-framer +observer):\n%s", seed, d.w.opaque, diff)
		}
		total += len(got)
	}
	if total < 2000 {
		t.Errorf("no more than %d exchanges were drawn", total)
	}
}
