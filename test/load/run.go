package main

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

// Plan of a run.
type Plan struct {
	Address string
	Rate    int // requests a second
	Fresh   int // every so manieth on a new connection; 1 is each, 0 is none
	Kept    int // connections that the others share
	For     time.Duration
}

// Result of a run.
type Result struct {
	Sent   int            `json:"sent"`
	Failed int            `json:"failed"`
	Errors map[string]int `json:"errors,omitempty"`
	// Late requests were due when all senders were busy; they were not sent.
	Late int `json:"late"`
	// Fresh is how many of those sent had a connection of their own.
	Fresh int `json:"fresh"`
	// Redialed is how many kept connections had to be replaced.
	Redialed int `json:"redialed"`
	// Milliseconds from when a request was due to its answer.
	P50 float64 `json:"p50ms"`
	P99 float64 `json:"p99ms"`
	Max float64 `json:"maxms"`
}

// Senders of requests on fresh connections, and how many requests may wait for
// a sender.
const (
	freshSenders = 64
	queue        = 256
)

// Run sends requests until the plan's time is over or ctx ends.
func (p Plan) Run(ctx context.Context) Result {
	ctx, stop := context.WithTimeout(ctx, p.For)
	defer stop()
	var senders sync.WaitGroup
	var t tally
	kept, fresh := make(chan time.Time, queue), make(chan time.Time, queue)
	for range p.Kept {
		senders.Go(func() { t.keep(p.Address, kept) })
	}
	for range freshSenders {
		senders.Go(func() {
			for due := range fresh {
				t.note(due, true, once(p.Address))
			}
		})
	}
	p.schedule(ctx, &t, kept, fresh)
	close(kept)
	close(fresh)
	senders.Wait()
	return t.result()
}

// schedule says when each request is due; it catches up when it was held up
// itself, at the end too, so that the rate is kept on the whole.
func (p Plan) schedule(ctx context.Context, t *tally, kept, fresh chan<- time.Time) {
	start, tick := time.Now(), time.NewTicker(time.Second/time.Duration(p.Rate))
	defer tick.Stop()
	for n, over := 0, false; !over; {
		passed := p.For
		select {
		case <-ctx.Done():
			if over = true; !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return
			}
		case <-tick.C:
			passed = min(passed, time.Since(start))
		}
		for ; n <= int(passed.Seconds()*float64(p.Rate)); n++ {
			to := kept
			if p.Fresh > 0 && n%p.Fresh == 0 {
				to = fresh
			}
			select {
			case to <- start.Add(time.Duration(n) * time.Second / time.Duration(p.Rate)):
			default:
				t.late()
			}
		}
	}
}

// keep sends requests on one connection, and replaces it when it fails.
func (t *tally) keep(address string, due <-chan time.Time) {
	var c *client
	for at := range due {
		var err error
		if c == nil {
			c, err = dial(address)
		}
		if err == nil {
			err = c.ask()
		}
		if err != nil {
			if c != nil {
				c.Close()
				c = nil
			}
			t.redial()
		}
		t.note(at, false, err)
	}
	if c != nil {
		c.Close()
	}
}

// tally counts.
type tally struct {
	mu    sync.Mutex
	r     Result
	times []time.Duration
}

func (t *tally) note(due time.Time, fresh bool, err error) {
	took := time.Since(due)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.r.Sent++
	if fresh {
		t.r.Fresh++
	}
	t.times = append(t.times, took)
	if err == nil {
		return
	}
	t.r.Failed++
	if t.r.Errors == nil {
		t.r.Errors = map[string]int{}
	}
	t.r.Errors[kind(err)]++
}

func (t *tally) late() {
	t.mu.Lock()
	t.r.Late++
	t.mu.Unlock()
}

func (t *tally) redial() {
	t.mu.Lock()
	t.r.Redialed++
	t.mu.Unlock()
}

func (t *tally) result() Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.times); n > 0 {
		slices.Sort(t.times)
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		t.r.P50, t.r.P99, t.r.Max = ms(t.times[n/2]), ms(t.times[n*99/100]), ms(t.times[n-1])
	}
	return t.r
}

// kind is an error without the addresses in it, so that alike ones count as
// one.
func kind(err error) string {
	if e, ok := err.(*net.OpError); ok {
		return e.Op + ": " + e.Err.Error()
	}
	return err.Error()
}
