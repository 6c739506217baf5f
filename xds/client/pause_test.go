package client

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A client that waits to try again does not wait once its certificate changed.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changed := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(changed) })
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for _, tc := range []struct {
			name    string
			ctx     context.Context
			changed <-chan struct{}
			again   bool
			took    time.Duration
		}{
			{"ended", ended, nil, false, 0},
			{"nothing to change", t.Context(), nil, true, 10 * time.Second},
			{"changed long ago", t.Context(), changed, true, 0},
		} {
			began := time.Now()
			if again := pause(tc.ctx, 10*time.Second, tc.changed); again != tc.again || time.Since(began) != tc.took {
				t.Errorf("%s: %v after %s, want %v after %s", tc.name, again, time.Since(began), tc.again, tc.took)
			}
		}
		changed = make(chan struct{})
		time.AfterFunc(time.Second, func() { close(changed) })
		began := time.Now()
		if !pause(t.Context(), 10*time.Second, changed) || time.Since(began) != time.Second {
			t.Errorf("after a change: %s", time.Since(began))
		}
	})
}
