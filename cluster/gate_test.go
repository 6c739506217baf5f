package cluster

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"
)

func TestAFloodOfReviewsWaitsForItself(t *testing.T) {
	release, served := make(chan struct{}), make(chan string, 100)
	g := newGate(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		served <- r.RemoteAddr
		if r.RemoteAddr != "10.0.0.1:443" {
			<-release
		}
	}))
	g.wait = 100 * time.Millisecond
	ask := func(from string) int {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/inject", nil)
		r.RemoteAddr = from
		g.ServeHTTP(w, r)
		return w.Code
	}
	var flood sync.WaitGroup
	for range reviewsOfOne {
		flood.Go(func() { ask("10.9.9.9:1") })
	}
	for range reviewsOfOne {
		<-served
	}
	if code := ask("10.9.9.9:2"); code != http.StatusServiceUnavailable {
		t.Errorf("one more of the flood: %d", code)
	}
	if code := ask("10.0.0.1:443"); code != http.StatusOK {
		t.Errorf("the API server: %d", code)
	}
	<-served
	for i := range reviewsAtOnce - reviewsOfOne {
		flood.Go(func() { ask("[fd00::" + strconv.Itoa(i/reviewsOfOne) + "]:1") })
	}
	for range reviewsAtOnce - reviewsOfOne {
		<-served
	}
	if code := ask("10.0.0.1:443"); code != http.StatusServiceUnavailable {
		t.Errorf("one more than all: %d", code)
	}
	close(release)
	flood.Wait()
	if code := ask("10.0.0.1:443"); code != http.StatusOK || len(g.by) != 0 {
		t.Errorf("afterwards: %d, and %d addresses are remembered", code, len(g.by))
	}
}
