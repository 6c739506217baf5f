package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"hasp/test/bench/load"
)

// bench is one run: some peers, some measures, some rounds.
type bench struct {
	scale
	rounds   int
	peers    []peer
	measures []measure
	idle     bool          // measure memory, too
	settle   time.Duration // before memory is looked at
	profiles string        // folder for CPU profiles of our sidecars; "" for none
	progress io.Writer
}

// report is what a run found.
type report struct {
	machine machine
	started time.Time
	took    time.Duration
	bench   *bench
	version map[string]string // by peer
	numbers numbers
}

// run starts all pairs, and measures each in turn. Nothing of it is left when it
// returns, also when ctx ends it.
func (b *bench) run(ctx context.Context, root string) (*report, error) {
	r := &report{machine: thisMachine(), started: time.Now(), bench: b, version: map[string]string{}, numbers: numbers{}}
	l, err := newLab(root)
	if err != nil {
		return nil, err
	}
	defer l.close()
	defer context.AfterFunc(ctx, l.kill)()
	l.profiles = b.profiles
	pairs := map[string]*pair{}
	defer func() {
		for _, p := range pairs {
			p.stop()
		}
	}()
	for _, peer := range b.peers {
		if r.version[peer.name], err = peer.version(l); err != nil {
			return nil, fmt.Errorf("%s: %w", peer.name, err)
		}
		p, err := peer.start(l)
		if p != nil {
			pairs[peer.name] = p
		}
		if err == nil {
			err = l.ready(p)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", peer.name, err)
		}
		fmt.Fprintf(b.progress, "%s is up: %s\n", peer.name, r.version[peer.name])
	}
	if b.idle {
		if err := b.memory(ctx, l, pairs, r); err != nil {
			return nil, err
		}
	}
	for n := range b.rounds {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err := b.round(l, pairs, r, n); err != nil {
			return nil, err
		}
	}
	r.took = time.Since(r.started)
	return r, nil
}

// round measures every peer with every measure; who comes first is another one
// each time.
func (b *bench) round(l *lab, pairs map[string]*pair, r *report, n int) error {
	for i, m := range b.measures {
		order := slices.Clone(b.peers)
		at := (n + i) % len(order)
		order = append(order[at:], order[:at]...)
		if n%2 == 1 {
			slices.Reverse(order)
		}
		taken := map[string]sample{}
		for _, peer := range order {
			if !peer.has(m.door) || peer.name == direct && !m.direct {
				continue
			}
			p, at := pairs[peer.name].through(m.door)
			s, err := l.take(p, at, m.plan(b.scale))
			if err != nil {
				return fmt.Errorf("%s of %s: %w", m.name, peer.name, err)
			}
			taken[peer.name] = s
		}
		for name, s := range taken {
			for _, x := range m.metrics {
				if name != direct || !x.cpu {
					r.numbers.add(x.name, name, x.of(s))
				}
			}
		}
		fmt.Fprintf(b.progress, "round %d of %d: %s\n", n+1, b.rounds, m.name)
	}
	return nil
}

// memory opens silent connections through all pairs and looks at what they have
// grown by. A Go program's collector runs by itself every two minutes at the
// latest, and settle is longer.
func (b *bench) memory(ctx context.Context, l *lab, pairs map[string]*pair, r *report) error {
	// What was taken to start is given back first.
	if err := rest(ctx, b.settle/4); err != nil {
		return err
	}
	all := map[string]sample{}
	for _, peer := range b.peers {
		if p := pairs[peer.name]; len(p.procs) > 0 {
			m, err := p.memory()
			if err != nil {
				return err
			}
			all[peer.name] = sample{idle: m.resident, grown: -m.own}
		}
	}
	var sessions []*session
	defer func() {
		for _, s := range sessions {
			s.end()
		}
	}()
	for name, s := range all {
		open, err := l.session(load.Plan{Kind: load.Idle, To: pairs[name].doors[httpDoor], Connections: b.idleConnections()})
		if err != nil {
			return fmt.Errorf("idle connections of %s: %w", name, err)
		}
		sessions = append(sessions, open)
		s.Done = b.idleConnections()
		all[name] = s
	}
	fmt.Fprintf(b.progress, "%d idle connections a pair are open; memory is looked at in %s\n", b.idleConnections(), b.settle)
	if err := rest(ctx, b.settle); err != nil {
		return err
	}
	for name, s := range all {
		m, err := pairs[name].memory()
		if err != nil {
			return err
		}
		s.grown += m.own
		for _, m := range idle().metrics {
			r.numbers.add(m.name, name, m.of(s))
		}
	}
	return nil
}

// rest is time in which nothing is sent.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
