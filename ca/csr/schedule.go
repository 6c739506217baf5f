package csr

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"time"
)

const (
	// Retries after a failure wait between minWait and maxWait, doubling.
	minWait = 250 * time.Millisecond
	maxWait = 15 * time.Second
	// fileWait is the longest wait for a file that is not there yet: somebody is
	// about to write it, and a pod waits for it to start.
	fileWait = time.Second
	// lookEvery is how often the roots' file is read between the connections
	// that read it. Kubelets themselves take a minute or more to follow a
	// ConfigMap.
	lookEvery = 10 * time.Second
	// spread is within what time workloads renew whose roots changed.
	spread = 5 * time.Second
)

// halfLife is half of what is left, give or take a tenth, so that workloads
// that started together do not renew together.
func halfLife(now, notAfter time.Time) time.Duration {
	half := notAfter.Sub(now) / 2
	return half + time.Duration((rand.Float64()-0.5)*0.2*float64(half))
}

// retry is how long to wait after err, the nth failure in a row.
func retry(n int, err error) time.Duration {
	if errors.Is(err, fs.ErrNotExist) {
		return min(backoff(n), fileWait)
	}
	return backoff(n)
}

// backoff is how long to wait after the nth failure in a row: doubling, with
// up to a fifth of it taken off at random.
func backoff(n int) time.Duration {
	d := maxWait
	if n < 8 {
		d = min(minWait<<(n-1), maxWait)
	}
	return d - time.Duration(rand.Int64N(int64(d)/5))
}
