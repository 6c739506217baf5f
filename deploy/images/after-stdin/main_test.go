package main

import (
	"io"
	"os"
	"testing"
	"time"
)

func TestWait(t *testing.T) {
	const short, long = 50 * time.Millisecond, time.Minute
	for _, tc := range []struct {
		name   string
		client func(w *os.File) // what it does on standard input
		atMost time.Duration
		waits  bool
		left   string // what the program can still read
	}{
		{"it sends", func(w *os.File) { io.WriteString(w, "{}"); w.Close() }, long, false, "{}"},
		{"it has nothing to send", func(w *os.File) { w.Close() }, long, false, ""},
		{"it is not there", func(*os.File) {}, short, true, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			tc.client(w)
			start := time.Now()
			wait(int32(r.Fd()), tc.atMost)
			if took := time.Since(start); took < tc.atMost == tc.waits {
				t.Errorf("waited %v", took)
			}
			w.Close()
			if b, err := io.ReadAll(r); err != nil || string(b) != tc.left {
				t.Errorf("left %q, %v", b, err)
			}
		})
	}
}
