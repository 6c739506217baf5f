package main

import (
	"fmt"
	"math"
	"slices"
)

// numbers of all rounds: metric -> peer -> one a round.
type numbers map[string]map[string][]float64

func (n numbers) add(metric, peer string, v float64) {
	if n[metric] == nil {
		n[metric] = map[string][]float64{}
	}
	n[metric][peer] = append(n[metric][peer], v)
}

// spread is the median of some rounds, with the least and the greatest.
type spread struct{ Median, Min, Max float64 }

func spreadOf(v []float64) (spread, bool) {
	if len(v) == 0 {
		return spread{}, false
	}
	s := slices.Sorted(slices.Values(v))
	m := s[len(s)/2]
	if len(s)%2 == 0 {
		m = (s[len(s)/2-1] + m) / 2
	}
	return spread{m, s[0], s[len(s)-1]}, true
}

// spread of a metric and a peer.
func (n numbers) spread(m metric, peer string) (spread, bool) { return spreadOf(n.series(m, peer)) }

// series of a metric and a peer; of an added one, what it adds to direct in each
// round, and of direct itself what that is.
func (n numbers) series(m metric, peer string) []float64 {
	v := n[m.name][peer]
	if !m.added || peer == direct {
		return v
	}
	base := n[m.name][direct]
	var out []float64
	for i := range v {
		if i < len(base) {
			out = append(out, v[i]-base[i])
		}
	}
	return out
}

// ratio of ours to a peer: the median of the rounds' ratios, which noise that
// lasts for a round leaves alone. What is added may be next to nothing in a round,
// or less; there it is the ratio of the medians, where both add something.
func (n numbers) ratio(m metric, ours, peer string) (spread, bool) {
	a, b := n.series(m, ours), n.series(m, peer)
	if m.added {
		x, ok := spreadOf(a)
		y, too := spreadOf(b)
		if !ok || !too || x.Median <= 0 || y.Median <= 0 {
			return spread{}, false
		}
		a, b = []float64{x.Median}, []float64{y.Median}
	}
	var out []float64
	for i := range min(len(a), len(b)) {
		if b[i] > 0 {
			out = append(out, a[i]/b[i])
		}
	}
	return spreadOf(out)
}

// figure is a number with three digits that count.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func (s spread) String() string {
	return fmt.Sprintf("%s (%s-%s)", figure(s.Median), figure(s.Min), figure(s.Max))
}
