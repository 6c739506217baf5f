package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// Result of a simulation. Times are in milliseconds, sizes in bytes.
type Result struct {
	Plan    Plan      `json:"plan"`
	Machine string    `json:"machine"`
	At      time.Time `json:"at"`

	Read         Read     `json:"read"`
	Plane        Footing  `json:"controlPlane"`
	Client       Footing  `json:"client"`
	Certificates Spread   `json:"certificates"` // all asked at once
	Start        Storm    `json:"start"`        // all start at once, certificates included
	Idle         float64  `json:"idle"`         // CPU a second when nothing changes
	Reports      float64  `json:"reports"`      // CPU a second more when all report
	Graph        float64  `json:"graph"`        // to answer GET /graph then
	Changes      []Change `json:"changes"`
	Reconnect    Storm    `json:"reconnect"` // all connections break at once
	Restart      Storm    `json:"restart"`   // all proxies begin anew at once
	Checked      int      `json:"checked"`   // configurations that were compared with what they should be
}

// Read is how the control plane starts.
type Read struct {
	Took float64 `json:"took"`
	CPU  float64 `json:"cpu"`
}

// Footing is the memory of a process without and with its proxies.
type Footing struct {
	Alone Memory `json:"alone"`
	Full  Memory `json:"full"`
	Each  int64  `json:"each"` // proxy, of what lives
}

func (f *Footing) per(proxies int) {
	f.Each = (int64(f.Full.Live) - int64(f.Alone.Live)) / int64(proxies)
}

// Change is one kind of change, its figures for one.
type Change struct {
	Kind        string  `json:"kind"`
	What        string  `json:"what"`
	Count       int     `json:"count"`
	Subscribers float64 `json:"subscribers"` // proxies whose configuration it changes
	InUse       Spread  `json:"inUse"`       // from apply to the new configuration in use, over all subscribers
	Acked       Spread  `json:"acked"`       // and to its acknowledgement
	Everywhere  Spread  `json:"everywhere"`  // and until all proxies count as up to date
	CPU         float64 `json:"cpu"`         // of the control plane
	Sent        float64 `json:"sent"`        // bytes, TLS included
}

// Storm is all proxies at once.
type Storm struct {
	Took Spread  `json:"took"`
	CPU  float64 `json:"cpu"`
	Sent float64 `json:"sent"`
}

// Spread of durations.
type Spread struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func newResult(p Plan) *Result {
	return &Result{Plan: p, At: time.Now().UTC().Truncate(time.Second), Machine: machine()}
}

func machine() string {
	model := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for l := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	return fmt.Sprintf("%d cores of %s, %s", runtime.NumCPU(), model, runtime.Version())
}

// rows of the result: what, and the figure.
func (r *Result) rows() [][2]string {
	storm := func(s Storm) string {
		return fmt.Sprintf("%.0f / %.0f / %.0f ms, %.0f ms of CPU, %s", s.Took.P50, s.Took.P99, s.Took.Max, s.CPU, size(s.Sent))
	}
	return [][2]string{
		{"reading everything", fmt.Sprintf("%.0f ms, %.0f ms of CPU", r.Read.Took, r.Read.CPU)},
		{"memory of the control plane, without a proxy", fmt.Sprintf("%s live, %s resident", size(float64(r.Plane.Alone.Live)), size(float64(r.Plane.Alone.RSS)))},
		{"with all of them", fmt.Sprintf("%s live, %s resident", size(float64(r.Plane.Full.Live)), size(float64(r.Plane.Full.RSS)))},
		{"for each proxy, in the control plane", size(float64(r.Plane.Each))},
		{"for each proxy, in the proxy", size(float64(r.Client.Each))},
		{"certificates, all asked at once (p50 / p99 / max)", fmt.Sprintf("%.0f / %.0f / %.0f ms", r.Certificates.P50, r.Certificates.P99, r.Certificates.Max)},
		{"first configuration, then all at once", storm(r.Start)},
		{"all connections break: connected again", storm(r.Reconnect)},
		{"all proxies begin anew: first configuration", storm(r.Restart)},
		{"nothing changes", fmt.Sprintf("%.1f ms of CPU a second", r.Idle)},
		{"all proxies report, each about once a second", fmt.Sprintf("%.1f ms of CPU a second more", r.Reports)},
		{"who talks to whom, asked then", fmt.Sprintf("%.0f ms", r.Graph)},
	}
}

var columns = []string{"change", "subscribers", "in use p50 / p99", "acknowledged p50 / p99", "everywhere p50", "CPU", "bytes"}

func (c Change) cells() []string {
	return []string{c.Kind, fmt.Sprintf("%.1f", c.Subscribers), fmt.Sprintf("%.1f / %.1f ms", c.InUse.P50, c.InUse.P99),
		fmt.Sprintf("%.1f / %.1f ms", c.Acked.P50, c.Acked.P99), fmt.Sprintf("%.1f ms", c.Everywhere.P50), fmt.Sprintf("%.1f ms", c.CPU), size(c.Sent)}
}

func (r *Result) title() string {
	return fmt.Sprintf("%d services, %d workloads, %d proxies connected, each of which talks to %d services; %d changes of each kind",
		r.Plan.Services, r.Plan.Workloads, r.Plan.Proxies, r.Plan.Calls, r.Plan.Changes)
}

// Table is for a terminal.
func (r *Result) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n\n", r.title(), r.Machine)
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, row := range r.rows() {
		fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
	}
	w.Flush()
	b.WriteByte('\n')
	fmt.Fprintln(w, strings.Join(columns, "\t"))
	for _, c := range r.Changes {
		fmt.Fprintln(w, strings.Join(c.cells(), "\t"))
	}
	w.Flush()
	fmt.Fprintf(&b, "\n%d configurations compared: all are what the objects say.\n", r.Checked)
	return b.String()
}

func size(n float64) string {
	switch {
	case n >= 1<<20 || n <= -1<<20:
		return fmt.Sprintf("%.1f MiB", n/(1<<20))
	case n >= 1<<10 || n <= -1<<10:
		return fmt.Sprintf("%.1f KiB", n/(1<<10))
	}
	return fmt.Sprintf("%.0f B", n)
}
