package proxy

import (
	"bytes"
	"errors"
	"strconv"
)

const (
	// maxHeadLine bounds one line of a message head, maxHead the whole head.
	maxHeadLine = 16 << 10
	maxHead     = 64 << 10
)

// errFraming is what ends the observing of a connection: the bytes are not
// HTTP/1, or two readers could disagree on where a message ends. The relay goes
// on; only the counting of requests stops.
var errFraming = errors.New("not HTTP/1 framing that can be followed")

// framer follows the messages of one direction of an HTTP/1 connection (RFC
// 9112) as the bytes pass by, in pieces of any size. It never alters or delays
// a byte and remembers one line at a time.
type framer struct {
	// head is called at the end of each message head; it says how the body is
	// delimited where the head alone does not (responses).
	head func(h *msgHead) bodyKind
	// begin is called at the first byte of a message, done at its end.
	begin, done func()

	state frameState
	line  []byte // of the current line, what has passed so far
	size  int    // bytes of the current head
	total uint64 // bytes of the current message, what has passed so far
	left  uint64 // bytes of the body or chunk to pass
	msg   msgHead
}

type frameState int

const (
	stateIdle      frameState = iota // before the first byte of a message
	stateStartLine                   // in the request or status line
	stateHeader                      // in the header lines
	stateBody                        // left bytes of body
	stateChunkSize
	stateChunk    // left bytes of chunk
	stateChunkEnd // the line end after a chunk
	stateTrailer
	stateUntilClose // the rest of the connection is body
)

// bodyKind is how the end of a message is found.
type bodyKind int

const (
	bodyByHead     bodyKind = iota // as its head says
	bodyNone                       // there is none, whatever its head says
	bodyUntilClose                 // all that comes, when its head does not say
	bodyOpaque                     // all that comes, whatever its head says
)

// msgHead is what the head of a message says about its framing.
type msgHead struct {
	start    string // the request or status line
	chunked  bool
	hasLen   bool
	length   uint64
	upgrade  bool
	encoding bool // a transfer encoding was named
}

// feed passes the next bytes. After an error the framer must not be fed again.
func (f *framer) feed(p []byte) error {
	for len(p) > 0 {
		switch f.state {
		case stateBody, stateChunk:
			n := min(f.left, uint64(len(p)))
			p = p[n:]
			f.total += n
			if f.left -= n; f.left > 0 {
				return nil
			}
			if f.state == stateBody {
				f.finish()
			} else {
				f.state = stateChunkEnd
			}
		case stateUntilClose:
			f.total += uint64(len(p))
			return nil
		case stateIdle:
			if p[0] == '\r' || p[0] == '\n' { // tolerated between messages (RFC 9112, 2.2)
				p = p[1:]
				continue
			}
			f.state, f.msg, f.size, f.total = stateStartLine, msgHead{}, 0, 0
			f.begin()
		default:
			rest, line, whole, err := f.takeLine(p)
			if err != nil {
				return err
			}
			f.total += uint64(len(p) - len(rest))
			p = rest
			if whole {
				if err := f.handleLine(line); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// takeLine consumes up to and including the next line feed.
func (f *framer) takeLine(p []byte) (rest, line []byte, whole bool, err error) {
	i := bytes.IndexByte(p, '\n')
	part := p
	if i >= 0 {
		part = p[:i]
	}
	f.size += len(part) + 1
	if len(f.line)+len(part) > maxHeadLine || f.size > maxHead {
		return nil, nil, false, errFraming
	}
	if i < 0 {
		f.line = append(f.line, part...)
		return nil, nil, false, nil
	}
	line = part
	if len(f.line) > 0 {
		line = append(f.line, part...)
		f.line = line[:0]
	}
	return p[i+1:], bytes.TrimSuffix(line, []byte{'\r'}), true, nil
}

func (f *framer) handleLine(line []byte) error {
	switch f.state {
	case stateStartLine:
		f.msg.start = string(line)
		f.state = stateHeader
	case stateHeader:
		if len(line) > 0 {
			return f.msg.header(line)
		}
		return f.endOfHead()
	case stateChunkSize:
		n, err := chunkSize(line)
		if err != nil {
			return err
		}
		f.left, f.size, f.state = n, 0, stateChunk
		if n == 0 {
			f.state = stateTrailer
		}
	case stateChunkEnd:
		if len(line) > 0 {
			return errFraming
		}
		f.state = stateChunkSize
	case stateTrailer:
		if len(line) == 0 {
			f.finish()
		}
	}
	return nil
}

func (f *framer) endOfHead() error {
	m := &f.msg
	if m.chunked && m.hasLen || m.encoding && !m.chunked {
		return errFraming // two ends, or none: what smuggling is made of
	}
	f.size = 0
	kind := f.head(m)
	switch {
	case kind == bodyOpaque:
		f.state = stateUntilClose
	case kind == bodyNone:
		f.finish()
	case m.chunked:
		f.state = stateChunkSize
	case m.hasLen && m.length > 0:
		f.left, f.state = m.length, stateBody
	case m.hasLen || kind == bodyByHead:
		f.finish()
	default:
		f.state = stateUntilClose
	}
	return nil
}

func (f *framer) finish() {
	f.state = stateIdle
	if cap(f.line) > 1024 {
		f.line = nil // do not let one long header stay with an idle connection
	}
	f.msg.start = ""
	f.done()
}

// header takes a header line for what it says about framing.
func (m *msgHead) header(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok || len(name) == 0 || name[len(name)-1] == ' ' || name[0] == ' ' || name[0] == '\t' {
		return errFraming
	}
	value = bytes.Trim(value, " \t")
	switch {
	case fold(name, "content-length"):
		n, err := strconv.ParseUint(string(value), 10, 63)
		if err != nil || value[0] == '+' || m.hasLen && m.length != n {
			return errFraming
		}
		m.hasLen, m.length = true, n
	case fold(name, "transfer-encoding"):
		if m.encoding {
			return errFraming
		}
		m.encoding = true
		last := value[bytes.LastIndexByte(value, ',')+1:]
		m.chunked = fold(bytes.Trim(last, " \t"), "chunked")
	case fold(name, "upgrade"):
		m.upgrade = true
	}
	return nil
}

// chunkSize is the size in a chunk's first line, extensions left aside.
func chunkSize(line []byte) (uint64, error) {
	size, _, _ := bytes.Cut(line, []byte{';'})
	size = bytes.TrimRight(size, " \t")
	if len(size) == 0 || len(size) > 15 {
		return 0, errFraming
	}
	n, err := strconv.ParseUint(string(size), 16, 63)
	if err != nil || size[0] == '+' {
		return 0, errFraming
	}
	return n, nil
}

// fold compares ASCII without case; want is in lower case.
func fold(b []byte, want string) bool {
	return len(b) == len(want) && string(bytes.ToLower(b)) == want
}
