package main

import (
	_ "embed"
	"fmt"
	"strings"
	"time"
)

//go:embed how.md
var how string

//go:embed notes.md
var notes string

// aims are ratios of ours to a peer that it is meant to stay below.
var aims = []struct {
	metric string
	below  map[string]float64
}{
	{"saturated", map[string]float64{"haproxy-tcp": 0.80, "nginx-stream": 0.85, "tunnel": 0.75, "envoy-tcp": 0.5, "envoy-http": 0.5}},
	{"r1000", map[string]float64{"haproxy-tcp": 0.80, "nginx-stream": 0.80, "tunnel": 0.55, "envoy-tcp": 0.5, "envoy-http": 0.5}},
	{"p50", map[string]float64{"haproxy-tcp": 0.80, "nginx-stream": 0.85, "tunnel": 0.70, "envoy-tcp": 0.5, "envoy-http": 0.5}},
	{"bulk", map[string]float64{"haproxy-tcp": 0.70, "nginx-stream": 0.70, "tunnel": 0.70, "envoy-tcp": 0.7, "envoy-http": 0.7}},
	{"warm", map[string]float64{"haproxy-tcp": 0.15, "nginx-stream": 0.15, "tunnel": 0.30, "envoy-tcp": 0.5, "envoy-http": 0.5}},
	{"idle", map[string]float64{"haproxy-tcp": 0.4, "nginx-stream": 0.25, "tunnel": 0.2, "envoy-tcp": 0.2, "envoy-http": 0.2}},
}

// parts of the document, by the metrics in them.
var parts = []struct {
	title   string
	metrics []string
}{
	{"Requests", []string{"saturated", "saturated-rate", "r1000", "r3200", "grpc"}},
	{"Latency at 1,000/s", []string{"p50", "p99", "p999"}},
	{"New connections", []string{"full", "resumed", "warm"}},
	{"Bulk and memory", []string{"bulk", "bulk-rate", "idle", "rss"}},
}

// document is docs/benchmarks.md.
func (r *report) document() string {
	var b strings.Builder
	b.WriteString(`# Benchmarks

What a pair of sidecars costs, beside what one would take instead. This page is
written by ` + "`make bench`" + `, which does all of it again; nothing in it is typed by hand
but the last sections.

`)
	if len(r.numbers) == 0 {
		b.WriteString("It has no numbers yet.\n\n")
	} else {
		r.header(&b)
		r.tables(&b)
		r.ratios(&b)
		r.reached(&b)
	}
	b.WriteString(how + "\n" + notes)
	return b.String()
}

func (r *report) header(b *strings.Builder) {
	m := r.machine
	fmt.Fprintf(b, "| | |\n| --- | --- |\n| when | %s, %s, load average %s before |\n", r.started.UTC().Format("2006-01-02 15:04 MST"), r.took.Round(time.Second), m.load)
	fmt.Fprintf(b, "| machine | %s, %d cores; Linux %s, %s |\n", m.cpu, m.cores, m.kernel, m.distro)
	fmt.Fprintf(b, "| rounds | %d of %s a run |\n", r.bench.rounds, r.bench.length)
	seen := map[string]bool{}
	for _, p := range r.bench.peers {
		if v := r.version[p.name]; v != "" && !seen[v] {
			seen[v] = true
			fmt.Fprintf(b, "| %s | %s |\n", p.name, v)
		}
	}
	b.WriteString("\n")
}

func (r *report) metric(name string) (metric, bool) {
	for _, m := range r.bench.metrics() {
		if m.name == name {
			return m, true
		}
	}
	return metric{}, false
}

// row writes a line of a table.
func row(b *strings.Builder, cells []string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

// head writes the first lines of a table.
func head(b *strings.Builder, cells []string) {
	row(b, cells)
	b.WriteString(strings.Repeat("| --- ", len(cells)) + "|\n")
}

func (r *report) tables(b *strings.Builder) {
	for _, part := range parts {
		cells, list := []string{""}, []metric{}
		for _, name := range part.metrics {
			if m, ok := r.metric(name); ok {
				list = append(list, m)
				cells = append(cells, m.title+", "+m.unit)
			}
		}
		if len(list) == 0 {
			continue
		}
		fmt.Fprintf(b, "## %s\n\n", part.title)
		head(b, cells)
		for _, p := range r.bench.peers {
			cells, some := []string{p.name}, false
			for _, m := range list {
				cell := none
				if s, ok := r.numbers.spread(m, p.name); ok {
					cell, some = s.String(), true
				}
				cells = append(cells, cell)
			}
			if some {
				row(b, cells)
			}
		}
		b.WriteString("\n")
	}
	b.WriteString("Medians, in parentheses the least and the greatest of the rounds. In the row " + direct + " a\nlatency is the whole, in the others what is added to it.\n\n")
}

// others are the peers that ours is compared with.
func (r *report) others() (out []peer) {
	for _, p := range r.bench.peers {
		if p.name != direct && p.name != ours {
			out = append(out, p)
		}
	}
	return out
}

func (r *report) ratios(b *strings.Builder) {
	others := r.others()
	if _, measured := r.version[ours]; !measured || len(others) == 0 {
		return
	}
	fmt.Fprintf(b, "## %s as a multiple of the others\n\n", ours)
	cells := []string{""}
	for _, p := range others {
		cells = append(cells, p.name)
	}
	head(b, cells)
	for _, m := range r.bench.metrics() {
		cells := []string{m.title}
		for _, p := range others {
			cell := none
			if s, ok := r.numbers.ratio(m, ours, p.name); ok {
				cell = fmt.Sprintf("%.2f", s.Median)
			}
			cells = append(cells, cell)
		}
		row(b, cells)
	}
	b.WriteString("\nLess than 1 is less; of what is counted a second, less is worse.\n\n")
}

// reached compares with the aims.
func (r *report) reached(b *strings.Builder) {
	var others []peer
	for _, p := range r.others() {
		if _, aimed := aims[0].below[p.name]; aimed {
			others = append(others, p)
		}
	}
	if _, measured := r.version[ours]; !measured || len(others) == 0 {
		return
	}
	b.WriteString("## The aims\n\nWhat the ratio is, and what it is meant to be at most; what is not reached is bold.\n\n")
	cells := []string{""}
	for _, p := range others {
		cells = append(cells, p.name)
	}
	head(b, cells)
	for _, aim := range aims {
		m, ok := r.metric(aim.metric)
		if !ok {
			continue
		}
		cells := []string{m.title}
		for _, p := range others {
			cell := none
			if s, ok := r.numbers.ratio(m, ours, p.name); ok {
				cell = fmt.Sprintf("%.2f of %.2f", s.Median, aim.below[p.name])
				if s.Median > aim.below[p.name] {
					cell = "**" + cell + "**"
				}
			}
			cells = append(cells, cell)
		}
		row(b, cells)
	}
	b.WriteString("\n")
}
