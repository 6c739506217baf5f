package sandbox

import (
	"bytes"
	"sync"
	"testing"
)

// Who watches a pod's wire sees what others say to it and what it answers, in
// both families, and nothing of another pod.
func TestWatch(t *testing.T) {
	w := newWorld(t, nil)
	one, two := w.server("first", "first", 80), w.server("second", "second", 80)
	w.server("caller", "caller", 80)
	var mu sync.Mutex
	var seen bytes.Buffer
	stop, err := w.s.Watch(ns, "first", func(p []byte) {
		mu.Lock()
		defer mu.Unlock()
		seen.Write(p)
	})
	if err != nil {
		t.Fatal(err)
	}
	w.say("caller", one.Status.PodIP+":80")
	w.say("caller", "["+one.Status.PodIPs[1].IP+"]:80")
	w.say("caller", two.Status.PodIP+":80")
	missed, err := stop()
	if err != nil || missed != 0 {
		t.Errorf("%d packets missed, %v", missed, err)
	}
	if n := bytes.Count(seen.Bytes(), []byte("first")); n < 2 { // more when some of it was sent again
		t.Errorf("its answer was seen %d times, want 2 or more", n)
	}
	if bytes.Contains(seen.Bytes(), []byte("second")) {
		t.Error("another pod's answer was seen")
	}
	if _, err := w.s.Watch(ns, "nobody", func([]byte) {}); err == nil {
		t.Error("there is no such pod")
	}
}
