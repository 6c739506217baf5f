package client

import "time"

// SetEvery shortens the time between reports.
func (r *Reporter) SetEvery(d time.Duration) { r.every = d }

// ForgetAll forgets whatever is asked for, as if nobody had needed it for long.
func (d *Demand) ForgetAll() {
	later := time.Now().Add(time.Hour)
	d.services.forget(later)
	d.peers.forget(later)
}

// Forget is what the proxy's looks do in time: forget what was not used since.
func (d *Demand) Forget(since time.Time) { d.services.forget(since) }

// MaxAsked is how many services are asked for at most.
const MaxAsked = maxAsked

// ErrAway is why there is no answer without a control plane.
var ErrAway = errAway
