package relay

import (
	"io"
	"time"
)

// bypassPiece is how much travels between two looks at the counters.
const bypassPiece = 256 << 10

// mayBypass tells whether the bytes of a direction may go from socket to socket
// inside the kernel: both sides are plain TCP and nobody watches.
func (d *direction) mayBypass() bool {
	return d.src.plain() && d.dst.plain() && (d.finished == nil || d.finished())
}

// bypass moves bytes by splice(2) while they come in bulk. It is entered when a
// read filled the buffer and left when a piece takes long, because splicing
// keeps a pipe, two descriptors, for as long as it waits. A nil error means that
// the direction goes on as before.
func (d *direction) bypass() error {
	for {
		start := time.Now()
		n, err := io.CopyN(d.dst.tcp, d.src.tcp, bypassPiece) // ReadFrom splices
		d.count.Add(uint64(n))
		d.seen.Store(time.Now().UnixNano())
		if err != nil {
			return err
		}
		if time.Since(start) > 100*time.Millisecond {
			return nil
		}
	}
}
