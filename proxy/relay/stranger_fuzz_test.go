package relay

import (
	"bytes"
	"io"
	"testing"
	"time"

	"hasp/proxy/relay/record"
)

// FuzzStranger has a peer with keys, or somebody on the way without, say
// anything to a TLS side. The first byte of each step says what: bytes as they
// are, a record of some type, or a key update; the second how long it is.
// Nothing but what was sealed as data arrives, and the relay ends.
func FuzzStranger(f *testing.F) {
	f.Add([]byte{3, 5, 'h', 'e', 'l', 'l', 'o', 2, 2, 1, 0})
	f.Add([]byte{4, 1, 3, 1, 'x', 3, 0, 1, 4, 4, 0, 0, 30})
	f.Add([]byte{3, 2, 'o', 'k', 0, 6, 23, 3, 3, 0, 1, 7, 3, 1, 'x'})
	f.Add([]byte{0, 2, 23, 3, 2, 2, 2, 40})
	fast := new(Fast)
	f.Cleanup(fast.Close)
	f.Fuzz(func(t *testing.T, in []byte) {
		c, client := plainPair(t)
		u, upstream := strangerPair(t)
		done := startWith(fast)(client, upstream, new(Meter), nil)
		var out, data []byte
		whole := true // nothing was sent that is no record
		for len(in) >= 2 {
			what, n := in[0], min(int(in[1]), len(in)-2)
			p := in[2 : 2+n]
			in = in[2+n:]
			switch what % 5 {
			case 0:
				out, whole = append(out, p...), whole && n == 0
			case 1:
				out = append(out, u.record(p, record.TypeHandshake)...)
			case 2:
				out = append(out, u.record(p, record.TypeAlert)...)
			case 3:
				out = append(out, u.record(p, record.TypeApplicationData)...)
				if whole {
					data = append(data, p...)
				}
			case 4:
				out = append(out, u.keyUpdate(n == 0)...)
			}
		}
		_, _ = u.TCPConn.Write(out)
		_ = u.TCPConn.CloseWrite()
		_ = c.CloseWrite()
		c.SetReadDeadline(time.Now().Add(time.Minute))
		got, _ := io.ReadAll(c)
		if !bytes.HasPrefix(data, got) {
			t.Errorf("%q arrived of %q", got, data)
		}
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatal("the relay does not end")
		}
		u.TCPConn.Close()
		c.Close()
	})
}
