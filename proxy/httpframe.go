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

// errHTTP2 is what ends HTTP/1 where HTTP/2 begins.
var errHTTP2 = errors.New("HTTP/2 from here on")

// messages hears of the messages of a direction.
type messages interface {
	begin()                  // at the first byte of a message
	start(line []byte) error // at the end of its request or status line
	// head is called at the end of each message head; it says how the body is
	// delimited where the head alone does not (responses).
	head() bodyKind
	done() // at the end of the message
}

// framer follows the messages of one direction of an HTTP/1 connection (RFC
// 9112) as the bytes pass by, in pieces of any size. It never alters or delays
// a byte and remembers one line at a time.
type framer struct {
	messages
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
	bodyHTTP2                      // none: the head was HTTP/2's preface
)

// msgHead is what the head of a message says about its framing.
type msgHead struct {
	length   uint64
	hasLen   bool
	chunked  bool
	encoding bool // a transfer encoding was named
}

// feed passes the next bytes. After an error the framer must not be fed again;
// rest is then what was not looked at.
func (f *framer) feed(p []byte) (rest []byte, err error) {
	for len(p) > 0 {
		switch f.state {
		case stateBody, stateChunk:
			n := min(f.left, uint64(len(p)))
			p = p[n:]
			f.total += n
			if f.left -= n; f.left > 0 {
				return nil, nil
			}
			if f.state == stateBody {
				f.end()
			} else {
				f.state = stateChunkEnd
			}
		case stateUntilClose:
			f.total += uint64(len(p))
			return nil, nil
		case stateIdle:
			if p[0] == '\r' || p[0] == '\n' { // tolerated between messages (RFC 9112, 2.2)
				p = p[1:]
				continue
			}
			f.state, f.msg, f.size, f.total = stateStartLine, msgHead{}, 0, 0
			f.begin()
		default:
			n, line, err := f.takeLine(p)
			if err != nil {
				return nil, err
			}
			f.total += uint64(n)
			p = p[n:]
			if line == nil {
				continue
			}
			if err := f.handleLine(line); err != nil {
				return p, err
			}
		}
	}
	return nil, nil
}

// takeLine consumes up to and including the next line feed: n bytes. line is nil
// as long as it is not whole.
func (f *framer) takeLine(p []byte) (n int, line []byte, err error) {
	i := bytes.IndexByte(p, '\n')
	part := p
	if i >= 0 {
		part = p[:i]
	}
	f.size += len(part) + 1
	if len(f.line)+len(part) > maxHeadLine || f.size > maxHead {
		return 0, nil, errFraming
	}
	if i < 0 {
		f.line = append(f.line, part...)
		return len(p), nil, nil
	}
	line = part
	if len(f.line) > 0 {
		line = append(f.line, part...)
		f.line = line[:0]
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return i + 1, line, nil
}

func (f *framer) handleLine(line []byte) error {
	switch f.state {
	case stateHeader:
		if len(line) > 0 {
			return f.msg.header(line)
		}
		return f.endOfHead()
	case stateStartLine:
		f.state = stateHeader
		return f.start(line)
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
			f.end()
		}
	}
	return nil
}

func (f *framer) endOfHead() error {
	m := &f.msg
	if m.chunked && m.hasLen || m.encoding && !m.chunked {
		return errFraming // two ends, or none: what smuggling is made of
	}
	kind := f.head()
	f.size = 0
	switch {
	case kind == bodyHTTP2:
		return errHTTP2
	case kind == bodyOpaque:
		f.state = stateUntilClose
	case kind == bodyNone:
		f.end()
	case m.chunked:
		f.state = stateChunkSize
	case m.hasLen && m.length > 0:
		f.left, f.state = m.length, stateBody
	case m.hasLen || kind == bodyByHead:
		f.end()
	default:
		f.state = stateUntilClose
	}
	return nil
}

// maxIdleLine is how much an idle connection keeps to put lines together in.
const maxIdleLine = 256

func (f *framer) end() {
	f.state = stateIdle
	if cap(f.line) > maxIdleLine {
		f.line = nil
	}
	f.done()
}

// header takes a header line for what it says about framing. Most say nothing.
func (m *msgHead) header(line []byte) error {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || line[colon-1] == ' ' || line[0] == ' ' || line[0] == '\t' {
		return errFraming
	}
	if colon != len("content-length") && colon != len("transfer-encoding") {
		return nil
	}
	name, value := line[:colon], trimBlank(line[colon+1:])
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
		m.chunked = fold(trimBlank(last), "chunked")
	}
	return nil
}

// trimBlank takes off what may stand around a value.
func trimBlank(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for n := len(b); n > 0 && (b[n-1] == ' ' || b[n-1] == '\t'); n-- {
		b = b[:n-1]
	}
	return b
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

// fold compares ASCII without case; want is of lower case letters and dashes.
func fold(b []byte, want string) bool {
	if len(b) != len(want) {
		return false
	}
	for i := range want {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != want[i] {
			return false
		}
	}
	return true
}
