package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// settle is how long after a change's last acknowledgement its work is still
	// counted: statuses are written then.
	settle = 250 * time.Millisecond
	// restFor is how long a mesh in which nothing changes is watched.
	restFor = 2 * time.Second
	// reportsFor is how long reports are watched, and waited for before that.
	reportsFor = 5 * time.Second
	// checked is how many configurations are compared at the end, at most.
	checked = 50
)

// run is a simulation under way.
type run struct {
	plan         Plan
	applier      *applier
	members      []member
	plane, fleet *part
	result       *Result
	idle         float64 // CPU seconds a second of the control plane at rest
}

// Run simulates.
func Run(ctx context.Context, p Plan) (*Result, error) {
	objects, err := newCluster(ctx, p)
	if err != nil {
		return nil, err
	}
	defer objects.close()
	city := newCity(p)
	r := &run{plan: p, applier: &applier{city: city, api: objects}, result: newResult(p)}
	start := time.Now()
	if err := r.applier.load(); err != nil {
		return nil, err
	}
	p.say("applying everything: %.1f s\n", time.Since(start).Seconds())
	r.members = city.members(p)
	r.applier.call(r.members)
	if r.plane, err = startPart(planePart); err != nil {
		return nil, err
	}
	defer r.plane.stop()
	if r.fleet, err = startPart(fleetPart); err != nil {
		return nil, err
	}
	defer r.fleet.stop()
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"reading everything, and all proxies start", r.read},
		{"memory", r.join},
		{"rest", r.rest},
		{"changes", r.changes},
		{"reports", r.reports},
		{"all connections break", r.reconnect},
		{"all proxies begin anew", r.restart},
		{"check", r.check},
	} {
		start := time.Now()
		if err := step.do(ctx); err != nil {
			return nil, err
		}
		p.say("%s: %.1f s\n", step.what, time.Since(start).Seconds())
	}
	return r.result, nil
}

// serve on loopback, until close.
func (a *apiServer) serve() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{Handler: a, ReadHeaderTimeout: 10 * time.Second}
	go s.Serve(ln)
	a.url, a.end = "http://"+ln.Addr().String(), func() { s.Close() }
	return nil
}

// newCluster that a plan asks for, with nothing in it.
func newCluster(ctx context.Context, p Plan) (cluster, error) {
	if p.Embedded {
		return newEmbedded(ctx)
	}
	a := newAPIServer()
	return a, a.serve()
}

// read: the control plane starts and reads everything.
func (r *run) read(ctx context.Context) error {
	var info PlaneInfo
	if err := r.plane.ask(ctx, "Start", PlaneConfig{API: r.applier.api.reached(), OnDemand: r.plan.OnDemand}, &info); err != nil {
		return err
	}
	used, err := r.usage(ctx)
	if err != nil {
		return err
	}
	r.result.Read = Read{Took: millis(info.Read), CPU: millis(used.CPU)}
	if err := r.plane.ask(ctx, "Memory", struct{}{}, &r.result.Plane.Alone); err != nil {
		return err
	}
	if err := r.fleet.ask(ctx, "Memory", struct{}{}, &r.result.Client.Alone); err != nil {
		return err
	}
	crew := Crew{Members: r.members, Target: info.Address, Roots: info.Roots}
	if err := r.plane.ask(ctx, "Tokens", r.members, &crew.Tokens); err != nil {
		return err
	}
	var joined Joined
	storm, err := r.storm(ctx, func() ([]time.Duration, error) {
		err := r.fleet.ask(ctx, "Start", crew, &joined)
		return joined.Configuration, err
	})
	if err != nil {
		return err
	}
	r.result.Certificates = spreadOf(joined.Certificate)
	r.result.Start = storm
	return nil
}

// join: all proxies are there; what do they take?
func (r *run) join(ctx context.Context) error {
	if _, err := r.acked(ctx); err != nil {
		return err
	}
	if err := r.plane.ask(ctx, "Memory", struct{}{}, &r.result.Plane.Full); err != nil {
		return err
	}
	if err := r.fleet.ask(ctx, "Memory", struct{}{}, &r.result.Client.Full); err != nil {
		return err
	}
	r.result.Plane.per(r.plan.Proxies)
	r.result.Client.per(r.plan.Proxies)
	return nil
}

// rest: nothing changes.
func (r *run) rest(ctx context.Context) (err error) {
	r.idle, err = r.share(ctx, r.watch(restFor))
	r.result.Idle = r.idle * 1000
	return err
}

// reports: all proxies report what they see, as they do all the time.
func (r *run) reports(ctx context.Context) error {
	if err := r.fleet.ask(ctx, "Reports", true, &struct{}{}); err != nil {
		return err
	}
	if err := pause(ctx, r.watch(reportsFor)); err != nil { // all have connected
		return err
	}
	var used float64
	err := r.profiled(ctx, "reports", func() (err error) {
		used, err = r.share(ctx, r.watch(reportsFor))
		return err
	})
	if err != nil {
		return err
	}
	r.result.Reports = 1000 * (used - r.idle)
	var took time.Duration
	if err := r.plane.ask(ctx, "Look", "/graph?window=60s", &took); err != nil {
		return err
	}
	r.result.Graph = millis(took)
	return r.fleet.ask(ctx, "Reports", false, &struct{}{})
}

// share of a CPU that the control plane uses.
func (r *run) share(ctx context.Context, d time.Duration) (float64, error) {
	before, err := r.usage(ctx)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := pause(ctx, d); err != nil {
		return 0, err
	}
	after, err := r.usage(ctx)
	return (after.CPU - before.CPU).Seconds() / time.Since(start).Seconds(), err
}

// watch is how long to watch: a moment is enough where nobody reads the figures.
func (r *run) watch(d time.Duration) time.Duration {
	if r.plan.Brief {
		return d / 20
	}
	return d
}

// changes of each kind, one after the other.
func (r *run) changes(ctx context.Context) error {
	for _, k := range r.applier.kinds() {
		err := r.profiled(ctx, k.name, func() error {
			c, err := r.changesOf(ctx, k)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			r.result.Changes = append(r.result.Changes, c)
			r.plan.say("  %s\n", strings.Join(c.cells(), "  "))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// profiled is do, with profiles of the control plane if they are asked for.
func (r *run) profiled(ctx context.Context, name string, do func() error) error {
	if r.plan.Profile == "" {
		return do()
	}
	file := filepath.Join(r.plan.Profile, name)
	if err := r.plane.ask(ctx, "Profile", file+".cpu", &struct{}{}); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return r.plane.ask(ctx, "ProfileEnd", file+".heap", &struct{}{})
}

func (r *run) changesOf(ctx context.Context, k kind) (Change, error) {
	c := Change{Kind: k.name, What: k.what}
	var inUse, acked, everywhere []time.Duration
	for range r.plan.Changes {
		before, err := r.usage(ctx)
		if err != nil {
			return c, err
		}
		start := time.Now()
		want, err := k.apply()
		if err != nil {
			return c, err
		}
		var seen Seen
		if err := r.plane.ask(ctx, "Await", want, &seen); err != nil {
			return c, err
		}
		var acks, applied Acks
		if err := r.plane.ask(ctx, "Acked", AckArgs{seen.Generation, r.plan.Proxies}, &acks); err != nil {
			return c, err
		}
		if err := pause(ctx, r.watch(settle)); err != nil {
			return c, err
		}
		after, err := r.usage(ctx)
		if err != nil {
			return c, err
		}
		took := time.Since(start)
		if err := r.fleet.ask(ctx, "Applied", start, &applied); err != nil {
			return c, err
		}
		var last time.Time
		for node, at := range acks.At {
			if at.After(last) {
				last = at
			}
			if used, ok := applied.At[node]; ok {
				inUse, acked = append(inUse, used.Sub(start)), append(acked, at.Sub(start))
			}
		}
		everywhere = append(everywhere, last.Sub(start))
		c.Subscribers += float64(len(applied.At))
		c.CPU += millis(after.CPU-before.CPU) - r.idle*millis(took)
		c.Sent += float64(after.Sent - before.Sent)
	}
	n := float64(r.plan.Changes)
	c.Count, c.Subscribers, c.CPU, c.Sent = r.plan.Changes, c.Subscribers/n, c.CPU/n, c.Sent/n
	c.InUse, c.Acked, c.Everywhere = spreadOf(inUse), spreadOf(acked), spreadOf(everywhere)
	return c, nil
}

// reconnect: the control plane's connections all break.
func (r *run) reconnect(ctx context.Context) (err error) {
	r.result.Reconnect, err = r.storm(ctx, func() ([]time.Duration, error) {
		var cut time.Time
		if err := r.plane.ask(ctx, "Cut", struct{}{}, &cut); err != nil {
			return nil, err
		}
		var acks Acks
		err := r.plane.ask(ctx, "Connected", cut, &acks)
		var took []time.Duration
		for _, at := range acks.At {
			took = append(took, at.Sub(cut))
		}
		return took, err
	})
	return err
}

// restart: all proxies come back at once without anything that they had.
func (r *run) restart(ctx context.Context) (err error) {
	r.result.Restart, err = r.storm(ctx, func() ([]time.Duration, error) {
		var joined Joined
		err := r.fleet.ask(ctx, "Restart", struct{}{}, &joined)
		return joined.Configuration, err
	})
	if err != nil {
		return err
	}
	_, err = r.acked(ctx)
	return err
}

// storm measures what the control plane does meanwhile.
func (r *run) storm(ctx context.Context, do func() ([]time.Duration, error)) (Storm, error) {
	before, err := r.usage(ctx)
	if err != nil {
		return Storm{}, err
	}
	took, err := do()
	if err != nil {
		return Storm{}, err
	}
	after, err := r.usage(ctx)
	return Storm{Took: spreadOf(took), CPU: millis(after.CPU - before.CPU), Sent: float64(after.Sent - before.Sent)}, err
}

// acked waits for everything that there is to be acknowledged.
func (r *run) acked(ctx context.Context) (Acks, error) {
	var seen Seen
	var acks Acks
	if err := r.plane.ask(ctx, "Generation", struct{}{}, &seen); err != nil {
		return acks, err
	}
	err := r.plane.ask(ctx, "Acked", AckArgs{seen.Generation, r.plan.Proxies}, &acks)
	return acks, err
}

// check that proxies have what the objects of now compile to.
func (r *run) check(ctx context.Context) error {
	expected, err := r.applier.expected()
	if err != nil {
		return err
	}
	var errs []error
	for i := range min(len(r.members), checked) {
		m := r.members[i*len(r.members)/min(len(r.members), checked)]
		var have []byte
		if err := r.fleet.ask(ctx, "Config", m.Node, &have); err != nil {
			return err
		}
		if err := expected.check(m, have); err != nil {
			errs = append(errs, err)
		}
		r.result.Checked++
	}
	return errors.Join(errs...)
}

func (r *run) usage(ctx context.Context) (u Usage, err error) {
	err = r.plane.ask(ctx, "Usage", struct{}{}, &u)
	return u, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// spreadOf durations.
func spreadOf(list []time.Duration) Spread {
	if len(list) == 0 {
		return Spread{}
	}
	slices.Sort(list)
	at := func(share float64) float64 { return millis(list[min(len(list)-1, int(share*float64(len(list))))]) }
	return Spread{P50: at(0.5), P99: at(0.99), Max: at(1)}
}
