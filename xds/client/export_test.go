package client

import "time"

// SetEvery shortens the time between reports.
func (r *Reporter) SetEvery(d time.Duration) { r.every = d }
