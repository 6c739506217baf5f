package dashboard

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// eventPause is how far apart events are at least: each makes the page be
	// rendered anew.
	eventPause = time.Second
	// eventBeat is how far apart they are at most: rates and ages change although
	// nothing happens.
	eventBeat    = 5 * time.Second
	eventTimeout = 10 * time.Second // for a listener that does not read
	maxListeners = 64
)

// listeners counts who follows the events.
type listeners struct{ n atomic.Int64 }

// events tells an open page, as server-sent events, that it is out of date.
func (s *site) events(w http.ResponseWriter, r *http.Request) {
	if s.listeners.n.Add(1) > maxListeners {
		s.listeners.n.Add(-1)
		http.Error(w, fmt.Sprintf("%d pages are open already, which is the limit", maxListeners), http.StatusServiceUnavailable)
		return
	}
	defer s.listeners.n.Add(-1)
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	changed := s.backend.Changed()
	beat, pause := time.NewTicker(eventBeat), time.NewTimer(0)
	defer beat.Stop()
	defer pause.Stop()
	for n := 1; ; n++ {
		_ = out.SetWriteDeadline(time.Now().Add(eventTimeout)) // where there is a connection
		if _, err := fmt.Fprintf(w, "event: facts\ndata: %d\n\n", n); err != nil || out.Flush() != nil {
			return
		}
		pause.Reset(eventPause)
		select {
		case <-r.Context().Done():
			return
		case <-pause.C:
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
			changed = s.backend.Changed()
		case <-beat.C:
		}
	}
}
