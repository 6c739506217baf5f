package proof

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

var (
	wireClient = netip.MustParseAddrPort("10.0.0.1:40000")
	wireServer = netip.MustParseAddrPort("10.0.0.2:8080")
	six        = netip.MustParseAddrPort("[fd00::1]:40000")
	sixServer  = netip.MustParseAddrPort("[fd00::2]:8080")
)

// packet with one TCP segment.
func packet(from, to netip.AddrPort, seq uint32, syn bool, data string) []byte {
	tcp := make([]byte, 20, 20+len(data))
	binary.BigEndian.PutUint16(tcp, from.Port())
	binary.BigEndian.PutUint16(tcp[2:], to.Port())
	binary.BigEndian.PutUint32(tcp[4:], seq)
	tcp[12] = 5 << 4
	if syn {
		tcp[13] = 2
	}
	tcp = append(tcp, data...)
	if from.Addr().Is4() {
		b := make([]byte, 20)
		b[0], b[9] = 0x45, 6
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(tcp)))
		copy(b[12:], from.Addr().AsSlice())
		copy(b[16:], to.Addr().AsSlice())
		return append(b, tcp...)
	}
	b := make([]byte, 40)
	b[0], b[6] = 0x60, 6
	binary.BigEndian.PutUint16(b[4:], uint16(len(tcp)))
	copy(b[8:], from.Addr().AsSlice())
	copy(b[24:], to.Addr().AsSlice())
	return append(b, tcp...)
}

func record(kind byte, content string) string {
	return string([]byte{kind, 3, 3, byte(len(content) >> 8), byte(len(content))}) + content
}

// hello of a server that chose a version.
func hello(v13 bool) string {
	b := make([]byte, 38, 80)
	b[0] = 2
	b = append(b, 0, 0x13, 0x01, 0) // no session, a suite, no compression
	if v13 {
		return string(append(b, 0, 6, 0, 43, 0, 2, 3, 4))
	}
	return string(append(b, 0, 0))
}

func TestWire(t *testing.T) {
	type said struct {
		up   bool
		seq  uint32 // counted from the SYN's
		data string
	}
	secret := record(23, "whatever it is")
	for _, c := range []struct {
		name string
		said []said
		want Flow // but for the addresses
	}{
		{"TLS 1.3", []said{{true, 1, record(22, "hello")}, {false, 1, record(22, hello(true))}, {true, 11, secret}}, Flow{Records: 3, Version: "1.3", Sent: 29, Received: 55}},
		{"TLS 1.2", []said{{true, 1, record(22, "hello")}, {false, 1, record(22, hello(false))}}, Flow{Records: 2, Version: "1.2", Sent: 10, Received: 49}},
		{"a record in pieces, one of them twice", []said{{true, 1, secret[:3]}, {true, 1, secret[:3]}, {true, 4, secret[3:7]}, {true, 6, secret[5:]}}, Flow{Records: 1, Sent: 19}},
		{"plaintext, not answered", []said{{true, 1, "GET / HTTP/1.1\r\n"}}, Flow{Plain: true, Sent: 16}},
		{"plaintext, answered", []said{{true, 1, "GET / HTTP/1.1\r\n"}, {false, 1, "HTTP/1.1 200 OK\r\n"}}, Flow{Plain: true, Sent: 16, Received: 17}},
		{"plaintext after a handshake", []said{{true, 1, record(22, "hello")}, {true, 11, "password"}}, Flow{Plain: true, Records: 1, Sent: 18}},
		{"a record that is too long", []said{{true, 1, "\x17\x03\x03\xff\xff"}}, Flow{Plain: true, Sent: 5}},
		{"a packet is missing", []said{{true, 1, secret}, {true, 100, "password"}}, Flow{Lost: true, Records: 1, Sent: 19}},
		{"silent", nil, Flow{}},
	} {
		for _, ends := range [][2]netip.AddrPort{{wireClient, wireServer}, {six, sixServer}} {
			w := NewWire([]netip.Addr{wireServer.Addr(), sixServer.Addr()})
			w.Packet(packet(ends[0], ends[1], 4294967290, true, "")) // the sequence numbers wrap
			w.Packet(packet(ends[1], ends[0], 7000, true, ""))
			for _, s := range c.said {
				if s.up {
					w.Packet(packet(ends[0], ends[1], 4294967290+s.seq, false, s.data))
				} else {
					w.Packet(packet(ends[1], ends[0], 7000+s.seq, false, s.data))
				}
			}
			c.want.Client, c.want.Server = ends[0], ends[1]
			if got := w.Flows(); len(got) != 1 || got[0] != c.want {
				t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
			}
		}
	}
}

func TestWireIsBounded(t *testing.T) {
	w := NewWire([]netip.Addr{wireServer.Addr()})
	w.Packet(packet(wireClient, wireServer, 1, false, "from before we looked"))
	w.Packet(packet(wireClient, sixServer, 1, true, "")[:30])
	for i := range maxFlows + 10 {
		w.Packet(packet(netip.AddrPortFrom(wireClient.Addr(), uint16(i)), wireServer, 1, true, ""))
	}
	if len(w.Flows()) != maxFlows || w.More != 10 {
		t.Errorf("%d connections and %d more", len(w.Flows()), w.More)
	}
}

func FuzzWire(f *testing.F) {
	f.Add(packet(wireClient, wireServer, 1, true, ""), packet(wireServer, wireClient, 1, false, record(22, hello(true))))
	f.Add(packet(six, sixServer, 1, true, ""), packet(sixServer, six, 1, false, "x"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		w := NewWire([]netip.Addr{wireServer.Addr(), sixServer.Addr()})
		for _, p := range [][]byte{a, b, a} {
			w.Packet(p)
		}
		for _, fl := range w.Flows() {
			if fl.Records > fl.Sent+fl.Received {
				t.Errorf("%+v", fl)
			}
		}
	})
}
