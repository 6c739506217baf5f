package proof

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// maxFlows bounds the connections that a Wire follows; later ones are counted.
const maxFlows = 4096

// Flow is what went over the wire of one connection, from its beginning.
type Flow struct {
	Client, Server netip.AddrPort
	// Sent and Received are the bytes to and from the server.
	Sent, Received uint64
	// Records of TLS that the bytes were cut into, in both directions.
	Records uint64
	// Version that the server chose, "" when it said no ServerHello.
	Version string
	// Plain says that some bytes were no record of TLS. Lost says that packets were
	// missed: of the rest there is no telling.
	Plain, Lost bool
}

// Wire takes IP packets apart and says of the TCP connections to some servers
// whether anything but TLS was in them. It is fed by one goroutine.
type Wire struct {
	servers []netip.Addr
	flows   map[flowKey]*flow
	order   []flowKey
	// More are connections that there was no room for.
	More int
}

type flowKey struct{ client, server netip.AddrPort }

type flow struct{ up, down half }

// half is one direction.
type half struct {
	begun, lost, plain bool
	next               uint32 // sequence number
	bytes, records     uint64
	head               []byte // of a record that is not whole yet
	skip               int    // bytes of a record still to come
	hello              []byte // the first record, as far as it matters
	helloed            bool
}

// NewWire looks at connections to these addresses.
func NewWire(servers []netip.Addr) *Wire {
	return &Wire{servers: servers, flows: map[flowKey]*flow{}}
}

// Packet takes one IP packet.
func (w *Wire) Packet(b []byte) {
	src, dst, tcp, ok := ip(b)
	if !ok || len(tcp) < 20 {
		return
	}
	header := int(tcp[12]>>4) * 4
	if header < 20 || header > len(tcp) {
		return
	}
	from := netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp))
	to := netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:]))
	seq, flags, data := binary.BigEndian.Uint32(tcp[4:]), tcp[13], tcp[header:]
	const syn = 0x02
	switch {
	case slices.Contains(w.servers, dst):
		if f := w.flow(flowKey{from, to}, flags&syn != 0); f != nil {
			f.up.segment(seq, flags&syn != 0, data)
		}
	case slices.Contains(w.servers, src):
		if f := w.flow(flowKey{to, from}, false); f != nil {
			f.down.segment(seq, flags&syn != 0, data)
		}
	}
}

// ip takes the TCP segment out of a packet. Fragments and IPv6 extension headers
// are passed over: there are none between pods.
func ip(b []byte) (src, dst netip.Addr, tcp []byte, ok bool) {
	const tcpProtocol = 6
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		header, total := int(b[0]&0x0f)*4, int(binary.BigEndian.Uint16(b[2:]))
		if header < 20 || total < header || total > len(b) || b[9] != tcpProtocol || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
			return
		}
		return netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[header:total], true
	case len(b) >= 40 && b[0]>>4 == 6:
		total := 40 + int(binary.BigEndian.Uint16(b[4:]))
		if total > len(b) || b[6] != tcpProtocol {
			return
		}
		return netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[40:total], true
	}
	return
}

// flow that a packet is of; one that began before we looked is passed over.
func (w *Wire) flow(k flowKey, begins bool) *flow {
	if f := w.flows[k]; f != nil || !begins {
		return f
	}
	if len(w.flows) >= maxFlows {
		w.More++
		return nil
	}
	f := &flow{}
	w.flows[k] = f
	w.order = append(w.order, k)
	return f
}

// segment in its order; what was sent again is passed over.
func (h *half) segment(seq uint32, syn bool, data []byte) {
	if syn {
		if !h.begun {
			h.begun, h.next = true, seq+1
		}
		return
	}
	if len(data) == 0 || h.lost {
		return
	}
	if !h.begun {
		h.lost = true
		return
	}
	ahead := int32(seq - h.next)
	switch {
	case ahead > 0:
		h.lost = true
		return
	case int(-int64(ahead)) >= len(data):
		return
	}
	data = data[-ahead:]
	h.next += uint32(len(data))
	h.bytes += uint64(len(data))
	h.stream(data)
}

const (
	recordHead = 5
	maxRecord  = 1<<14 + 256 // RFC 8446, section 5.2
	maxHello   = 1024
)

// stream cuts bytes into records.
func (h *half) stream(b []byte) {
	for len(b) > 0 && !h.plain {
		if h.skip > 0 {
			n := min(h.skip, len(b))
			if !h.helloed && len(h.hello) < maxHello {
				h.hello = append(h.hello, b[:min(n, maxHello-len(h.hello))]...)
			}
			h.skip -= n
			h.helloed = h.helloed || h.skip == 0
			b = b[n:]
			continue
		}
		n := min(recordHead-len(h.head), len(b))
		h.head = append(h.head, b[:n]...)
		b = b[n:]
		if !likeRecord(h.head) {
			h.plain = true
			return
		}
		if len(h.head) == recordHead {
			h.skip = int(binary.BigEndian.Uint16(h.head[3:]))
			h.records++
			h.head = h.head[:0]
		}
	}
}

// likeRecord reports whether bytes may be the head of a TLS record, as far as
// they go.
func likeRecord(b []byte) bool {
	return b[0] >= 20 && b[0] <= 23 &&
		(len(b) < 2 || b[1] == 3) &&
		(len(b) < 3 || b[2] >= 1 && b[2] <= 3) &&
		(len(b) < recordHead || int(binary.BigEndian.Uint16(b[3:])) <= maxRecord && binary.BigEndian.Uint16(b[3:]) > 0)
}

// Flows seen so far, in the order in which they began.
func (w *Wire) Flows() []Flow {
	var out []Flow
	for _, k := range w.order {
		f := w.flows[k]
		out = append(out, Flow{
			Client: k.client, Server: k.server, Sent: f.up.bytes, Received: f.down.bytes, Records: f.up.records + f.down.records,
			Version: chosen(f.down.hello), Plain: f.up.plain || f.down.plain, Lost: f.up.lost || f.down.lost,
		})
	}
	return out
}

// chosen is the version in a ServerHello (RFC 8446, section 4.1.3).
func chosen(hello []byte) string {
	const (
		serverHello       = 2
		fixed             = 4 + 2 + 32 // handshake header, version, random
		supportedVersions = 43
	)
	if len(hello) < fixed+1 || hello[0] != serverHello {
		return ""
	}
	rest := hello[fixed:]
	skip := 1 + int(rest[0]) + 2 + 1 // session id, cipher suite, compression
	if len(rest) < skip+2 {
		return "1.2"
	}
	for e := rest[skip+2:]; len(e) >= 4; {
		kind, n := binary.BigEndian.Uint16(e), int(binary.BigEndian.Uint16(e[2:]))
		if len(e) < 4+n {
			break
		}
		if kind == supportedVersions && n == 2 && binary.BigEndian.Uint16(e[4:]) == 0x0304 {
			return "1.3"
		}
		e = e[4+n:]
	}
	return "1.2"
}
