package truth

import (
	"cmp"
	"slices"

	"hasp/mesh"
	"hasp/world"
)

// maxTraces is how many connections an effect names.
const maxTraces = 100

// WhatIf says what would become of everybody in the facts if the World after
// took the place of the one before. The live connections are judged by the
// function that the proxies sweep them with; of each client, live or in the
// ledger, it works out what its next connection would be in both Worlds.
//
// Objects is left to the caller, who knows what was written.
func WhatIf(before, after *world.World, f *Facts) Answer {
	q := &question{scene: sceneOf(before, f), was: newLens(before, nil)}
	q.then = newLens(after, q.was)
	a := Answer{Generation: before.Generation, Since: f.Since}
	relations := q.relations()
	var effects []Effect
	for _, t := range relations {
		if e := q.effect(t); e.What != Unchanged {
			effects = append(effects, e)
		}
	}
	a.Effects = gather(effects)
	a.Warnings = q.warnings(relations)
	a.Blind = q.blind(after)
	return a
}

// question is what WhatIf is asked.
type question struct {
	*scene
	was, then *lens
}

// effect on one client of one server.
func (q *question) effect(t *relation) Effect {
	e := Effect{What: Unchanged, Source: t.from, Destination: t.to, Service: t.service(), Port: t.port, Last: t.last()}
	before, then := q.next(q.was, t), q.next(q.then, t)
	var why string
	now := before.security
	for _, c := range t.lives {
		now = c.Security
		if v, ends := q.ends(c); ends {
			if e.Lives = append(e.Lives, c.Trace); why == "" {
				why = v
			}
		}
	}
	slices.Sort(e.Lives)
	e.Lives = slices.Compact(e.Lives) // one connection is two rows
	e.Live = len(e.Lives)
	ends := e.Live > 0
	switch {
	case !then.ok && (before.ok || ends):
		e.What, e.Why, e.Fix = Cut, then.why, q.fix(t, then)
	case !then.ok:
	case !before.ok:
		e.What, e.Why = Freed, "was refused: "+before.why
	case rank(then.security) > rank(before.security), ends && rank(then.security) > rank(now):
		e.What, e.Why = Upgraded, then.why
	case rank(then.security) < rank(before.security), ends && rank(then.security) < rank(now):
		e.What, e.Why, e.Fix = Weakened, then.why, q.fix(t, then)
	case ends:
		e.What, e.Why = Reset, why+"; the client may come back"
	}
	return e
}

// ends reports whether the candidate ends a live connection, and why. One that
// has not learned yet what it carries is left to settle by the proxies too.
func (q *question) ends(c *Connection) (why string, ends bool) {
	was, then := q.was.proxy(c.Node), q.then.proxy(c.Node)
	if c.Security == mesh.Unknown || was == nil || then == nil || !was.Judge(&c.Connection).Allow {
		return "", false
	}
	v := then.Judge(&c.Connection)
	return v.Why, !v.Allow
}

// rank orders by how much a connection is worth.
func rank(s mesh.Security) int {
	switch s {
	case mesh.MutualTLS:
		return 2
	case mesh.SimpleTLS:
		return 1
	}
	return 0
}

// gather makes one effect of those on the pods of one Deployment, the worst
// first.
func gather(list []Effect) []Effect {
	type key struct {
		what, from, to, service string
		port                    uint16
	}
	of := map[key]int{}
	var out []Effect
	for _, e := range list {
		k := key{e.What, e.Source.ID(), e.Destination.ID(), e.Service, e.Port}
		at, known := of[k]
		if !known {
			at = len(out)
			of[k] = at
			first := e
			first.Live, first.Lives = 0, nil
			out = append(out, first)
		}
		o := &out[at]
		if w := e.Source.Workload; w != "" && !slices.Contains(o.Pods, w) {
			o.Pods = append(o.Pods, w)
		}
		o.Live += e.Live
		o.Lives = append(o.Lives, e.Lives[:min(len(e.Lives), maxTraces-len(o.Lives))]...)
		if e.Last.After(o.Last) {
			o.Last = e.Last
		}
	}
	order := []string{Cut, Weakened, Reset, Freed, Upgraded}
	slices.SortStableFunc(out, func(a, b Effect) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.What), slices.Index(order, b.What)), cmp.Compare(b.Live, a.Live),
			cmp.Compare(a.Destination.ID(), b.Destination.ID()), cmp.Compare(a.Source.ID(), b.Source.ID()), cmp.Compare(a.Port, b.Port))
	})
	return out
}

// blind are the proxies of a World that do not report.
func (q *question) blind(w *world.World) []string {
	var out []string
	for _, wl := range w.Workloads {
		if wl.Role != mesh.RoleNone && len(wl.Addresses) > 0 && !q.answers(wl.Key()) {
			out = append(out, wl.Key())
		}
	}
	return out
}
