package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func testLogFile(t *testing.T) *containerLog {
	t.Helper()
	l, err := createLog(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l.now = func() time.Time { now = now.Add(time.Second); return now }
	return l
}

func readAll(t *testing.T, l *containerLog) string {
	t.Helper()
	r := l.reader(false)
	defer r.close()
	var b bytes.Buffer
	for {
		rec, err := r.next(t.Context())
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		b.Write(rec.data)
	}
}

// TestLogGivesBytesBack: whatever is written in whatever pieces.
func TestLogGivesBytesBack(t *testing.T) {
	l := testLogFile(t)
	pieces := []string{"a line\n", "half ", "a line\n\n\n", "\r 50%\r100%", "\x00\xff binary\n", "no end"}
	for i, p := range pieces {
		if err := l.append([]stream{streamOut, streamErr}[i%2], []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := readAll(t, l), strings.Join(pieces, ""); got != want {
		t.Errorf("read %q, want %q", got, want)
	}
	l.close()
	again, err := openLog(l.dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := readAll(t, again), strings.Join(pieces, ""); got != want {
		t.Errorf("read from disk %q, want %q", got, want)
	}
	b, err := os.ReadFile(l.file(0))
	if err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(string(b), "\n"); first != "2026-01-02T03:04:06Z stdout F a line" {
		t.Errorf("on disk %q", first)
	}
}

func TestLogIsBounded(t *testing.T) {
	l := testLogFile(t)
	line := []byte(strings.Repeat("x", maxChunk-1) + "\n")
	for range 4 * segmentSize / maxChunk {
		if err := l.append(streamOut, line); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%d files, %v, want 2", len(entries), err)
	}
	if got := readAll(t, l); len(got) < segmentSize || len(got) > 2*segmentSize {
		t.Errorf("%d bytes can be read, want one to two segments of %d", len(got), segmentSize)
	}
}

// TestLogFollowsAcrossSegments: a reader that follows misses nothing, whether it
// is at the end or a segment behind.
func TestLogFollowsAcrossSegments(t *testing.T) {
	l := testLogFile(t)
	got := make(chan int64, 1)
	r := l.reader(true)
	go func() {
		defer r.close()
		var n int64
		for {
			rec, err := r.next(context.Background())
			if err != nil {
				got <- n
				return
			}
			n += int64(len(rec.data))
		}
	}()
	line := []byte(strings.Repeat("x", maxChunk-1) + "\n")
	count := segmentSize/maxChunk + 10 // into the second segment
	for range count {
		if err := l.append(streamOut, line); err != nil {
			t.Fatal(err)
		}
	}
	l.close()
	if n := <-got; n != int64(count*maxChunk) {
		t.Errorf("followed %d bytes, want %d", n, count*maxChunk)
	}
}

// TestLogAfterACrash: half a record at the end does no harm.
func TestLogAfterACrash(t *testing.T) {
	l := testLogFile(t)
	if err := l.append(streamOut, []byte("whole\n")); err != nil {
		t.Fatal(err)
	}
	l.close()
	f, err := os.OpenFile(l.file(0), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, "2026-01-02T03:04:06Z stdo")
	f.Close()
	again, err := openLog(l.dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, again); got != "whole\n" {
		t.Errorf("read %q", got)
	}
}

func TestLogOptions(t *testing.T) {
	l := testLogFile(t)
	for i, s := range []string{"one\n", "two\n", "thr", "ee\n", "four"} {
		if err := l.append([]stream{streamOut, streamErr, streamOut, streamOut, streamOut}[i], []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	l.close()
	n := func(n int64) *int64 { return &n }
	for _, c := range []struct {
		name string
		opts corev1.PodLogOptions
		want string
	}{
		{"all", corev1.PodLogOptions{}, "one\ntwo\nthree\nfour"},
		{"tail", corev1.PodLogOptions{TailLines: n(2)}, "three\nfour"},
		{"tail none", corev1.PodLogOptions{TailLines: n(0)}, ""},
		{"tail more than there is", corev1.PodLogOptions{TailLines: n(9)}, "one\ntwo\nthree\nfour"},
		{"bytes", corev1.PodLogOptions{LimitBytes: n(6)}, "one\ntw"},
		{"times", corev1.PodLogOptions{Timestamps: true, TailLines: n(2)}, "2026-01-02T03:04:08Z three\n2026-01-02T03:04:10Z four"},
		{"one stream", corev1.PodLogOptions{Stream: new("Stderr")}, "two\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := openOutput(t.Context(), l, &c.opts)
			if err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			b, err := io.ReadAll(o)
			if err != nil || string(b) != c.want {
				t.Errorf("got %q, %v, want %q", b, err, c.want)
			}
		})
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte("2026-01-02T03:04:06Z stdout F a line"))
	f.Add([]byte("2026-01-02T03:04:06Z stderr P "))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err == nil && r.stream != streamOut && r.stream != streamErr {
			t.Errorf("stream %q", r.stream)
		}
	})
}
