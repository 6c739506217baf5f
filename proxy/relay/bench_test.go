package relay

import (
	"io"
	"syscall"
	"testing"
	"time"
)

// The processor's time is that of the whole process, both far ends included.
func BenchmarkBulk(b *testing.B) {
	benchmark(b, func(b *testing.B, c, u peer) {
		const chunk = 1 << 20
		b.SetBytes(chunk)
		go func() {
			buf := make([]byte, 64<<10)
			for {
				if _, err := u.Write(buf); err != nil {
					return
				}
			}
		}()
		buf := make([]byte, 64<<10)
		for b.Loop() {
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(c, chunk), buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPing(b *testing.B) {
	benchmark(b, func(b *testing.B, c, u peer) {
		go io.CopyBuffer(struct{ io.Writer }{u}, struct{ io.Reader }{u}, make([]byte, 2048))
		buf := make([]byte, 1024)
		for b.Loop() {
			if _, err := c.Write(buf); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(c, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchmark(b *testing.B, run func(*testing.B, peer, peer)) {
	for _, r := range []struct {
		name string
		Relayer
	}{{"portable", Portable{}}, {"fast", new(Fast)}} {
		for _, k := range kinds {
			b.Run(k.name+"/"+r.name, func(b *testing.B) {
				c, client := k.client(b)
				u, upstream := k.upstream(b)
				done := startWith(r)(client, upstream, new(Meter), nil)
				before := used()
				run(b, c, u)
				b.ReportMetric(float64((used()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
				rawOf(c).Close()
				rawOf(u).Close()
				<-done
			})
		}
		if f, ok := r.Relayer.(*Fast); ok {
			f.Close()
		}
	}
}

func used() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
