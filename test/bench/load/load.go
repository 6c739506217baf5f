// Package load is both ends of what the benchmark sends through a pair of
// proxies: [Serve] is the workload behind them, [Run] its client. Each runs in a
// process of its own, so that neither is in the proxies' CPU time.
//
// A run is strict: one answer that is late, wrong or missing fails it, since a
// proxy that drops work would otherwise look cheap.
package load

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// Kind of a run.
type Kind string

const (
	Requests    Kind = "requests"    // HTTP/1.1 on connections that stay
	Connections Kind = "connections" // a connection for each request
	Bulk        Kind = "bulk"        // one long response
	Idle        Kind = "idle"        // connections that say nothing after one request
	Calls       Kind = "calls"       // unary gRPC
)

// Plan of a run.
type Plan struct {
	Kind Kind
	To   string // HOST:PORT
	// Connections at a time.
	Connections int
	// Rate is how many requests are due a second, whatever became of those
	// before; 0 is one after the other on each connection.
	Rate int
	// For is how long requests are sent. Count, when not 0, ends that earlier.
	For   time.Duration
	Count int
	// Bytes of the long response.
	Bytes int64
}

// Result of a run in which every answer was right.
type Result struct {
	Done    int     // requests, connections or calls
	Bytes   int64   // of responses' bodies
	Seconds float64 // from the first request to the last answer
	// Microseconds from when a request was due, or sent where it had no rate, to
	// its answer's last byte.
	P50, P99, P999 float64
}

// patience with one answer.
const patience = 15 * time.Second

// prepared is a run whose connections are open and have been used once.
type prepared interface {
	run() (Result, error)
	close()
}

func prepare(p Plan) (prepared, error) {
	switch p.Kind {
	case Calls:
		return newCalls(p)
	case Requests, Connections, Bulk, Idle:
		return newEngine(p)
	}
	return nil, fmt.Errorf("load: unknown kind %q", p.Kind)
}

// Run opens the plan's connections and says "ready" on w; a line on r starts it,
// and its result is a line of JSON on w. The connections stay until r ends, so
// that whoever measures can look at the proxies in between.
func Run(p Plan, r io.Reader, w io.Writer) error {
	run, err := prepare(p)
	if err != nil {
		return err
	}
	defer run.close()
	if _, err := fmt.Fprintln(w, "ready"); err != nil {
		return err
	}
	in := bufio.NewReader(r)
	if _, err := in.ReadString('\n'); err != nil {
		return nil // it was only to be idle
	}
	result, err := run.run()
	if err != nil {
		return err
	}
	if err := json.NewEncoder(w).Encode(result); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

// times fills in the percentiles.
func (r *Result) times(took []time.Duration) {
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	at := func(q float64) float64 {
		n := int(math.Ceil(q*float64(len(took)))) - 1
		return float64(took[max(n, 0)].Nanoseconds()) / 1000
	}
	r.P50, r.P99, r.P999 = at(0.5), at(0.99), at(0.999)
}
