package control

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	// maxListeners bounds who follows /events at a time.
	maxListeners = 64
	// eventPause is how far apart events are at least: what comes between is one.
	eventPause = 250 * time.Millisecond
	// heartbeat shows both ends that the other is there.
	heartbeat = 15 * time.Second
	// writeTime is how long a listener that does not read is waited for.
	writeTime = 10 * time.Second
)

// events tells of every new version of the facts, and of every new World.
func (c *Control) events(w http.ResponseWriter, r *http.Request) {
	if c.listeners.Add(1) > maxListeners {
		c.listeners.Add(-1)
		http.Error(w, fmt.Sprintf("%d listen already, which is the limit", maxListeners), http.StatusServiceUnavailable)
		return
	}
	defer c.listeners.Add(-1)
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	go func() {
		select {
		case <-c.ended:
			stop()
		case <-ctx.Done():
		}
	}()

	out := stream{w, http.NewResponseController(w)}
	changed, version := c.facts.news()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set(VersionHeader, strconv.FormatUint(version, 10))
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for fresh := true; ; {
		text := ": still here\n\n"
		if fresh {
			text = fmt.Sprintf("event: facts\ndata: %d\n\n", version)
		}
		if out.write(text) != nil || fresh && !pause(ctx, c.facts.pace()) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
			fresh = true
			changed, version = c.facts.news()
		case <-beat.C:
			fresh = false
		}
	}
}

// stream is a response that is written bit by bit.
type stream struct {
	w    http.ResponseWriter
	ctrl *http.ResponseController
}

func (s stream) write(text string) error {
	_ = s.ctrl.SetWriteDeadline(time.Now().Add(writeTime)) // where there is a connection
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.ctrl.Flush()
}

// pause reports whether ctx did not end meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
