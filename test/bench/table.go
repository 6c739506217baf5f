package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// metrics of a run, in the order of the table.
func (b *bench) metrics() []metric {
	var out []metric
	for _, m := range b.measures {
		out = append(out, m.metrics...)
	}
	if b.idle {
		out = append(out, idle().metrics...)
	}
	return out
}

// none stands where a peer does not do something.
const none = "-"

func (r *report) print(w io.Writer, form string) error {
	switch form {
	case "json":
		return r.json(w)
	case "text":
	default:
		return fmt.Errorf("-o %s: it is text or json", form)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "\t")
	for _, p := range r.bench.peers {
		fmt.Fprint(t, p.name, "\t")
	}
	fmt.Fprintln(t)
	for _, m := range r.bench.metrics() {
		fmt.Fprintf(t, "%s, %s\t", m.title, m.unit)
		for _, p := range r.bench.peers {
			cell := none
			if s, ok := r.numbers.spread(m, p.name); ok {
				cell = figure(s.Median)
			}
			if x, ok := r.numbers.ratio(m, ours, p.name); ok && p.name != ours && p.name != direct {
				cell += fmt.Sprintf(" [%.2f]", x.Median)
			}
			fmt.Fprint(t, cell, "\t")
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "medians of %d rounds; in brackets %s as a multiple of it, paired by round\n", r.bench.rounds, ours)
	return err
}

// ours is the row that others are compared with.
const ours = "hasp"

func (r *report) json(w io.Writer) error {
	type cell struct {
		Metric string    `json:"metric"`
		Unit   string    `json:"unit"`
		Peer   string    `json:"peer"`
		Rounds []float64 `json:"rounds"`
	}
	cells := []cell{}
	for _, m := range r.bench.metrics() {
		for _, p := range r.bench.peers {
			if v := r.numbers[m.name][p.name]; len(v) > 0 {
				cells = append(cells, cell{strings.TrimSpace(m.name), m.unit, p.name, v})
			}
		}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(cells)
}
