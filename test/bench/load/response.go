package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// maxHead bounds a response's head.
const maxHead = 8 << 10

var (
	errLongHead = fmt.Errorf("the head of a response is longer than %d bytes", maxHead)
	errNoLength = errors.New("a response has no Content-Length")
)

// parseHead reads the head of a response with status 200 off b: its length with
// the empty line, and that of the body. A head of 0 bytes is one that has not
// come as a whole.
func parseHead(b []byte) (head int, body int64, err error) {
	end := bytes.Index(b[:min(len(b), maxHead)], []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) >= maxHead {
			return 0, 0, errLongHead
		}
		return 0, 0, nil
	}
	status, rest, _ := bytes.Cut(b[:end], []byte("\r\n"))
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200")) {
		return 0, 0, fmt.Errorf("the answer is %.60q, not HTTP/1.1 200", status)
	}
	for len(rest) > 0 {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		if len(name) == len("content-length") && bytes.EqualFold(name, []byte("content-length")) {
			body, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
			if err != nil || body < 0 {
				return 0, 0, fmt.Errorf("a response's Content-Length is %.30q", value)
			}
			return end + 4, body, nil
		}
	}
	return 0, 0, errNoLength
}
