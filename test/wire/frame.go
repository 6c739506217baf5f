package wire

import (
	"encoding/binary"
	"net/netip"
)

// segment is one TCP segment.
type segment struct {
	from, to netip.AddrPort
	seq      uint32
	syn, ack bool
	fin, rst bool
	payload  []byte
}

const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	protoTCP  = 6
)

// parseFrame finds the TCP segment in an Ethernet frame. Fragments and
// extension headers, which nothing here sends, are not followed.
func parseFrame(b []byte) (segment, bool) {
	if len(b) < 14 {
		return segment{}, false
	}
	switch kind := binary.BigEndian.Uint16(b[12:]); kind {
	case etherIPv4:
		return parseIPv4(b[14:])
	case etherIPv6:
		return parseIPv6(b[14:])
	}
	return segment{}, false
}

func parseIPv4(b []byte) (segment, bool) {
	if len(b) < 20 || b[0]>>4 != 4 || b[9] != protoTCP {
		return segment{}, false
	}
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if fragment := binary.BigEndian.Uint16(b[6:]) & 0x3fff; fragment != 0 {
		return segment{}, false
	}
	if total == 0 { // a segment larger than the field holds, not yet cut
		total = len(b)
	}
	if header < 20 || total < header || total > len(b) {
		return segment{}, false
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	return parseTCP(src, dst, b[header:total])
}

func parseIPv6(b []byte) (segment, bool) {
	if len(b) < 40 || b[0]>>4 != 6 || b[6] != protoTCP {
		return segment{}, false
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length == 0 {
		length = len(b) - 40
	}
	if length > len(b)-40 {
		return segment{}, false
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	return parseTCP(src, dst, b[40:40+length])
}

func parseTCP(src, dst netip.Addr, b []byte) (segment, bool) {
	if len(b) < 20 {
		return segment{}, false
	}
	header := int(b[12]>>4) * 4
	if header < 20 || header > len(b) {
		return segment{}, false
	}
	flags := b[13]
	return segment{
		from: netip.AddrPortFrom(src, binary.BigEndian.Uint16(b[0:])),
		to:   netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:])),
		seq:  binary.BigEndian.Uint32(b[4:]),
		fin:  flags&0x01 != 0, syn: flags&0x02 != 0, rst: flags&0x04 != 0, ack: flags&0x10 != 0,
		payload: b[header:],
	}, true
}
