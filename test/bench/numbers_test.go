package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSpread(t *testing.T) {
	for _, tc := range []struct {
		in   []float64
		want string
		ok   bool
	}{
		{nil, "0.00 (0.00-0.00)", false},
		{[]float64{3}, "3.00 (3.00-3.00)", true},
		{[]float64{300, 1, 20}, "20.0 (1.00-300)", true},
		{[]float64{1, 2, 4, 9}, "3.00 (1.00-9.00)", true},
	} {
		if got, ok := spreadOf(tc.in); got.String() != tc.want || ok != tc.ok {
			t.Errorf("%v: %s, %v, want %s, %v", tc.in, got, ok, tc.want, tc.ok)
		}
	}
}

// What is direct is taken off within a round, and ratios are made within one,
// except of what is added.
func TestRatio(t *testing.T) {
	n := numbers{}
	for _, round := range []map[string]float64{
		{direct: 50, "hasp": 100, "other": 150},
		{direct: 500, "hasp": 530, "other": 560}, // a noisy one
		{direct: 50, "hasp": 90, "other": 150},
	} {
		for peer, v := range round {
			n.add("p50", peer, v)
		}
	}
	added, plain := metric{name: "p50", added: true}, metric{name: "p50"}
	if d := cmp.Diff([]float64{50, 30, 40}, n.series(added, "hasp")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]float64{50, 500, 50}, n.series(added, direct)); d != "" {
		t.Error(d)
	}
	if got, ok := n.ratio(added, "hasp", "other"); got.Median != 0.4 || !ok {
		t.Errorf("added: %v, %v", got, ok)
	}
	if got, ok := n.ratio(plain, "hasp", "other"); got.Max != 530.0/560 || !ok {
		t.Errorf("plain: %v, %v", got, ok)
	}
	if _, ok := n.ratio(plain, "hasp", "nobody"); ok {
		t.Error("there is a ratio to nobody")
	}
	n.add("p50", "faster", 40)
	if got, ok := n.ratio(added, "hasp", "faster"); ok {
		t.Errorf("there is a ratio to a peer that adds nothing: %v", got)
	}
}
