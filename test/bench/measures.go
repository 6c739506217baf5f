package main

import (
	"fmt"
	"time"

	"hasp/test/bench/load"
)

// metric is a column: one number of a pair in a round.
type metric struct {
	name  string
	title string
	unit  string
	// added metrics are what a pair adds to the same round's direct.
	added bool
	cpu   bool // of the proxies: direct has none
	of    func(sample) float64
}

// sample is what a run through a pair took.
type sample struct {
	load.Result
	cpu   time.Duration // of the pair
	idle  int64         // resident bytes of the pair before anything was sent
	grown int64         // bytes of its own that idle connections added to the pair
}

// measure is a kind of run through a door of each pair.
type measure struct {
	name    string
	door    door
	direct  bool // also without proxies
	plan    func(scale) load.Plan
	metrics []metric
}

// scale is how much is sent.
type scale struct {
	length time.Duration // of a run; 0 in the brief mode
	brief  bool
}

// counted bounds the brief mode by a count, all else by time.
func (s scale) counted(p load.Plan, count int, times float64) load.Plan {
	p.For = time.Duration(times * float64(s.length))
	if s.brief {
		p.For, p.Count, p.Connections = 5*time.Second, count, min(p.Connections, 8)
	}
	return p
}

func perDone(s sample) float64 { return float64(s.cpu.Nanoseconds()) / 1000 / float64(s.Done) }

// idleConnections are opened through each pair at the end.
func (s scale) idleConnections() int {
	if s.brief {
		return 20
	}
	return 1000
}

// measures in the order of the table.
func measures() []measure {
	connections := func(s scale) load.Plan {
		return s.counted(load.Plan{Kind: load.Connections, Connections: 16}, 20, 1)
	}
	connection := func(name, title string) []metric {
		return []metric{{name: name, title: title, unit: "µs CPU", cpu: true, of: perDone}}
	}
	rate := func(n, conns int, times float64) func(scale) load.Plan {
		return func(s scale) load.Plan {
			return s.counted(load.Plan{Kind: load.Requests, Connections: conns, Rate: n}, 50, times)
		}
	}
	return []measure{
		{name: "saturated", door: httpDoor, plan: func(s scale) load.Plan {
			return s.counted(load.Plan{Kind: load.Requests, Connections: 64}, 200, 1)
		}, metrics: []metric{
			{name: "saturated", title: "request, saturated", unit: "µs CPU", cpu: true, of: perDone},
			{name: "saturated-rate", title: "requests/s, saturated", unit: "1/s", of: func(s sample) float64 { return float64(s.Done) / s.Seconds }},
		}},
		{name: "r1000", door: httpDoor, direct: true, plan: rate(1000, 16, 2), metrics: []metric{
			{name: "r1000", title: "request at 1,000/s", unit: "µs CPU", cpu: true, of: perDone},
			{name: "p50", title: "p50 added", unit: "µs", added: true, of: func(s sample) float64 { return s.P50 }},
			{name: "p99", title: "p99 added", unit: "µs", added: true, of: func(s sample) float64 { return s.P99 }},
			{name: "p999", title: "p99.9 added", unit: "µs", added: true, of: func(s sample) float64 { return s.P999 }},
		}},
		{name: "r3200", door: httpDoor, plan: rate(3200, 32, 1), metrics: []metric{
			{name: "r3200", title: "request at 3,200/s", unit: "µs CPU", cpu: true, of: perDone},
		}},
		{name: "bulk", door: httpDoor, plan: func(s scale) load.Plan {
			bytes := int64(s.length.Seconds() * (512 << 20))
			if s.brief {
				bytes = 8 << 20
			}
			return load.Plan{Kind: load.Bulk, Connections: 1, Bytes: bytes}
		}, metrics: []metric{
			{name: "bulk", title: "bulk, a GB", unit: "s CPU", cpu: true, of: func(s sample) float64 { return s.cpu.Seconds() / (float64(s.Bytes) / 1e9) }},
			{name: "bulk-rate", title: "bulk", unit: "Gbit/s", of: func(s sample) float64 { return float64(s.Bytes) * 8 / 1e9 / s.Seconds }},
		}},
		{name: "full", door: fullDoor, plan: connections, metrics: connection("full", "connection, full handshake")},
		{name: "resumed", door: resumedDoor, plan: connections, metrics: connection("resumed", "connection, resumed")},
		{name: "warm", door: warmDoor, plan: connections, metrics: connection("warm", "connection, warm mesh")},
		{name: "grpc", door: grpcDoor, plan: func(s scale) load.Plan {
			return s.counted(load.Plan{Kind: load.Calls, Connections: 8}, 100, 1)
		}, metrics: []metric{{name: "grpc", title: "gRPC call", unit: "µs CPU", cpu: true, of: perDone}}},
	}
}

// idle is not a measure of the rounds: all pairs' connections are open at the
// same time, once.
func idle() measure {
	return measure{name: "idle", door: httpDoor, metrics: []metric{
		{name: "idle", title: "idle connection", unit: "KiB", of: func(s sample) float64 { return float64(s.grown) / 1024 / float64(s.Done) }},
		{name: "rss", title: "RSS of a side, idle", unit: "MiB", of: func(s sample) float64 { return float64(s.idle) / (1 << 20) / 2 }},
	}}
}

// take runs a plan through a pair.
func (l *lab) take(p *pair, at string, plan load.Plan) (sample, error) {
	var out sample
	plan.To = at
	s, err := l.session(plan)
	if err != nil {
		return out, err
	}
	defer s.end()
	before, err := p.cpuTime()
	if err != nil {
		return out, err
	}
	if out.Result, err = s.run(); err != nil {
		return out, err
	}
	after, err := p.cpuTime()
	if err != nil {
		return out, err
	}
	if out.cpu = after - before; out.Done == 0 {
		return out, fmt.Errorf("nothing was done in %s", plan.For)
	}
	return out, nil
}
