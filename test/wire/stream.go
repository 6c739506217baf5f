package wire

// What is kept of one direction, and how many segments may wait for one that
// was not seen yet.
const (
	keepBytes    = 256 << 10
	keepSegments = 256
)

// stream puts one direction's bytes in order.
type stream struct {
	base    uint32 // sequence number of the first byte
	started bool
	data    []byte // from the first byte on, at most keepBytes
	length  int64  // bytes in order, kept or not
	waiting map[uint32][]byte
	lost    bool
	reset   bool
}

// syn tells where the stream begins.
func (s *stream) syn(seq uint32) {
	if !s.started {
		s.base, s.started = seq+1, true
	}
}

// add takes a segment's payload, which may come twice, overlap, or come before
// what precedes it.
func (s *stream) add(seq uint32, payload []byte) {
	if len(payload) == 0 || !s.started {
		return
	}
	if !s.append(seq, payload) {
		if s.waiting == nil {
			s.waiting = map[uint32][]byte{}
		}
		if len(s.waiting) == keepSegments {
			s.lost = true
			return
		}
		if len(payload) > len(s.waiting[seq]) {
			s.waiting[seq] = append([]byte(nil), payload...)
		}
		return
	}
	for progress := true; progress; {
		progress = false
		for at, p := range s.waiting {
			if s.append(at, p) {
				delete(s.waiting, at)
				progress = true
			}
		}
	}
}

// append adds what is new in payload; false when something before it is
// missing.
func (s *stream) append(seq uint32, payload []byte) bool {
	// Sequence numbers wrap; the difference, read as signed, does not.
	ahead := int64(int32(seq - (s.base + uint32(s.length))))
	if ahead > 0 {
		return false
	}
	if -ahead >= int64(len(payload)) {
		return true
	}
	fresh := payload[-ahead:]
	s.length += int64(len(fresh))
	room := keepBytes - len(s.data)
	s.data = append(s.data, fresh[:min(room, len(fresh))]...)
	return true
}

func (s *stream) direction() Direction {
	return Direction{
		Bytes: s.length, Markers: markers(s.data), Reset: s.reset,
		Truncated: s.lost || len(s.waiting) > 0 || s.length > int64(len(s.data)),
	}
}
