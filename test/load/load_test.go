package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// The rate is kept, on both kinds of connections, and what fails is counted.
func TestRun(t *testing.T) {
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1)%10 == 0 {
			panic(http.ErrAbortHandler) // the connection is cut
		}
		fmt.Fprintln(w, r.URL.Path)
	}))
	defer srv.Close()
	p := Plan{Address: srv.Listener.Addr().String(), Rate: 200, Fresh: 4, Kept: 4, For: time.Second}
	r := p.Run(context.Background())
	if r.Sent != 201 || r.Late > 0 {
		t.Errorf("sent %d, late %d; want 201 and none", r.Sent, r.Late)
	}
	if want := r.Sent / 10; r.Failed != want || r.Errors["unexpected EOF"]+r.Errors["EOF"] != want {
		t.Errorf("failed %d %v, want %d by EOF", r.Failed, r.Errors, want)
	}
	if r.Fresh != 51 || r.Redialed == 0 || r.Redialed > r.Failed {
		t.Errorf("%d fresh connections, %d redialed", r.Fresh, r.Redialed)
	}
}

// Nobody there: every request fails, none is sent twice.
func TestRunRefused(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	address := srv.Listener.Addr().String()
	srv.Close()
	r := Plan{Address: address, Rate: 100, Fresh: 1, For: 200 * time.Millisecond}.Run(context.Background())
	if r.Sent == 0 || r.Failed != r.Sent {
		t.Errorf("got %+v, want all failed", r)
	}
}
