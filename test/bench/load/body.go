package load

import (
	"bytes"
	"fmt"
)

// pattern is what bodies consist of. Its period is no power of two, so that a
// block that was lost or came twice shows.
var pattern = func() []byte {
	const period = 251
	b := make([]byte, period<<10)
	for i := range b {
		b[i] = byte(i%period) + 1
	}
	return b
}()

// smallBody is the length of a request's answer.
const smallBody = 1024

// checkBody compares what came at an offset of a body with what was sent.
func checkBody(at int64, b []byte) error {
	for len(b) > 0 {
		want := pattern[at%int64(len(pattern)):]
		n := min(len(want), len(b))
		if !bytes.Equal(want[:n], b[:n]) {
			return fmt.Errorf("the body is another one than was sent, in the %d bytes from %d", n, at)
		}
		at, b = at+int64(n), b[n:]
	}
	return nil
}
