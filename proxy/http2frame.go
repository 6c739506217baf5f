package proxy

import (
	"encoding/binary"
	"errors"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// maxHeaderBlock bounds a header block with all its frames, maxDynamicTable
	// what an encoder may have its decoder remember. A connection that wants more
	// is not followed.
	maxHeaderBlock  = 64 << 10
	maxDynamicTable = 64 << 10
	// initialTable is how large the dynamic table is until the encoder says
	// otherwise (RFC 9113, section 6.5.2).
	initialTable = 4096
	// initialWindow is how much a peer takes of a stream, and of all, until it says
	// otherwise.
	initialWindow = 65535

	frameHeadLen = 9
)

// errFrames is what ends the observing of an HTTP/2 connection, as errFraming
// does that of HTTP/1.
var errFrames = errors.New("not HTTP/2 that can be followed")

// frames hears of the frames of a direction that matter, and of the fields of a
// header block before headers or promised.
type frames interface {
	setting(http2.Setting)
	field(hpack.HeaderField)
	headers(stream uint32, end bool, size uint64)
	promised()
	data(stream uint32, size uint64) // of a frame, as it passes
	ended(stream uint32)             // by a DATA frame
	reset(stream uint32)
	goAway(last uint32)
}

// http2Framer follows the frames of one direction of an HTTP/2 connection (RFC
// 9113) as the bytes pass by, in pieces of any size. What it keeps is at most a
// header block that came in pieces, and HPACK's dynamic table.
//
// It needs no SETTINGS: an encoder that may use another size of its table than
// it did begins its next header block with that size (RFC 7541, section 4.2).
type http2Framer struct {
	frames
	preface string // what is still to come of the client's
	begun   bool   // the first frame was SETTINGS, as it must be

	have  int // bytes of the frame's head
	head  [frameHeadLen]byte
	left  int // bytes of its payload to come
	frame http2.FrameHeader
	small [8]byte // the first bytes of a RST_STREAM or GOAWAY, or a setting

	// The header block that is passing by; its last frame has END_HEADERS.
	first   http2.FrameHeader // its HEADERS or PUSH_PROMISE
	inBlock bool
	size    int    // of all its frames
	block   []byte // what came in pieces, without padding and the like
	mark    int    // where the payload of the frame begins in it
	decoder *hpack.Decoder
}

// feed passes the next bytes. After an error the framer must not be fed again.
func (f *http2Framer) feed(p []byte) error {
	for len(p) > 0 {
		if n := min(len(f.preface), len(p)); n > 0 {
			if string(p[:n]) != f.preface[:n] {
				return errFrames
			}
			p, f.preface = p[n:], f.preface[n:]
			continue
		}
		if f.have < frameHeadLen {
			n := copy(f.head[f.have:], p)
			p = p[n:]
			if f.have += n; f.have < frameHeadLen {
				return nil
			}
			if err := f.begin(); err != nil {
				return err
			}
		}
		n := min(f.left, len(p))
		if err := f.payload(p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// between tells whether the direction is between two frames, and not in the
// middle of a header block.
func (f *http2Framer) between() bool {
	return f.preface == "" && f.have == 0 && !f.inBlock
}

// begin looks at the head of a frame.
func (f *http2Framer) begin() error {
	h := &f.frame
	h.Length = uint32(f.head[0])<<16 | uint32(f.head[1])<<8 | uint32(f.head[2])
	h.Type, h.Flags = http2.FrameType(f.head[3]), http2.Flags(f.head[4])
	h.StreamID = binary.BigEndian.Uint32(f.head[5:]) &^ (1 << 31)
	f.left = int(h.Length)
	isSettings := h.Type == http2.FrameSettings && h.Flags == 0 && h.StreamID == 0 && h.Length%6 == 0
	if !f.begun && !isSettings || f.inBlock != (h.Type == http2.FrameContinuation) {
		return errFrames
	}
	f.begun = true
	ok := true
	switch h.Type {
	case http2.FrameData:
		ok = h.StreamID != 0
	case http2.FrameRSTStream:
		ok = h.StreamID != 0 && h.Length == 4
	case http2.FrameGoAway:
		ok = h.StreamID == 0 && h.Length >= 8
	case http2.FrameHeaders, http2.FramePushPromise:
		ok = h.StreamID != 0
		f.first, f.inBlock, f.size, f.mark = *h, true, f.left, 0
	case http2.FrameContinuation:
		ok = h.StreamID == f.first.StreamID
		f.size += f.left
		f.mark = len(f.block)
	}
	if !ok || f.inBlock && f.size > maxHeaderBlock {
		return errFrames
	}
	return nil
}

// payload takes the next bytes of a frame, all that there are of it.
func (f *http2Framer) payload(p []byte) error {
	h := &f.frame
	done := int(h.Length) - f.left
	f.left -= len(p)
	whole := f.left == 0
	if whole {
		f.have = 0
	}
	switch h.Type {
	case http2.FrameData:
		f.data(h.StreamID, uint64(len(p)))
		if whole && h.Flags.Has(http2.FlagDataEndStream) {
			f.ended(h.StreamID)
		}
	case http2.FrameSettings:
		for i, b := range p {
			at := (done + i) % 6
			if f.small[at] = b; at == 5 {
				f.setting(http2.Setting{ID: http2.SettingID(binary.BigEndian.Uint16(f.small[:])), Val: binary.BigEndian.Uint32(f.small[2:])})
			}
		}
	case http2.FrameRSTStream:
		if whole {
			f.reset(h.StreamID)
		}
	case http2.FrameGoAway:
		if done < len(f.small) {
			copy(f.small[done:], p)
		}
		if whole {
			f.goAway(binary.BigEndian.Uint32(f.small[:]) &^ (1 << 31))
		}
	case http2.FrameHeaders, http2.FramePushPromise, http2.FrameContinuation:
		return f.fragment(p, whole)
	}
	return nil
}

// fragment takes bytes of a header block. One that came in one piece is not
// copied.
func (f *http2Framer) fragment(p []byte, whole bool) error {
	last := whole && f.frame.Flags.Has(http2.FlagHeadersEndHeaders)
	if !last || len(f.block) > 0 {
		f.block = append(f.block, p...)
		p = f.block[f.mark:]
	}
	if !whole {
		return nil
	}
	p, ok := bare(&f.frame, p)
	if !ok {
		return errFrames
	}
	if len(f.block) > 0 {
		f.block = append(f.block[:f.mark], p...)
		p = f.block
	}
	if !last {
		return nil
	}
	return f.decode(p)
}

// bare is a frame's part of a header block: its payload without padding,
// priority and promised stream.
func bare(h *http2.FrameHeader, p []byte) (fragment []byte, ok bool) {
	padding, skip := 0, 0
	if h.Type != http2.FrameContinuation && h.Flags.Has(http2.FlagHeadersPadded) { // of PUSH_PROMISE too
		if len(p) == 0 {
			return nil, false
		}
		padding, p = int(p[0]), p[1:]
	}
	switch {
	case h.Type == http2.FramePushPromise:
		skip = 4
	case h.Type == http2.FrameHeaders && h.Flags.Has(http2.FlagHeadersPriority):
		skip = 5
	}
	if len(p) < skip+padding {
		return nil, false
	}
	return p[skip : len(p)-padding], true
}

// decode takes a whole header block.
func (f *http2Framer) decode(block []byte) error {
	if f.decoder == nil {
		f.decoder = hpack.NewDecoder(initialTable, f.field)
		f.decoder.SetAllowedMaxDynamicTableSize(maxDynamicTable)
		f.decoder.SetMaxStringLength(maxHeaderBlock)
	}
	if _, err := f.decoder.Write(block); err != nil {
		return errFrames
	}
	if err := f.decoder.Close(); err != nil {
		return errFrames
	}
	if f.block = f.block[:0]; cap(f.block) > maxIdleLine {
		f.block = nil
	}
	f.inBlock = false
	if f.first.Type == http2.FramePushPromise {
		f.promised()
	} else {
		f.headers(f.first.StreamID, f.first.Flags.Has(http2.FlagHeadersEndStream), uint64(f.size))
	}
	return nil
}
