package layout

import "slices"

// rounds of moving everything to its neighbours; more move it by less than a
// pixel.
const rounds = 32

// place gives every item its place across the edges.
func (g *graph) place() {
	for _, rank := range g.ranks {
		at := 0.0
		for k, i := range rank {
			if k > 0 {
				at += g.apart(rank[k-1], i)
			}
			g.items[i].at = at
		}
	}
	for round := range rounds {
		if round%2 == 0 {
			for r := range g.ranks {
				g.pull(r, round >= rounds/2, func(it *item) []int { return it.up })
			}
		} else {
			for r := len(g.ranks) - 1; r >= 0; r-- {
				g.pull(r, round >= rounds/2, func(it *item) []int { return it.down })
			}
		}
	}
	low := 0.0
	for k, it := range g.items {
		if edge := it.at - it.span/2; k == 0 || edge < low {
			low = edge
		}
	}
	for i := range g.items {
		g.items[i].at += margin - low
	}
}

// apart is the least distance of the middles of two neighbours.
func (g *graph) apart(a, b int) float64 {
	gap := float64(between)
	if g.items[a].node < 0 && g.items[b].node < 0 {
		gap = bendGap
	}
	return (g.items[a].span+g.items[b].span)/2 + gap
}

// pull moves the items of a rank as near to their neighbours as the order and
// the distances allow: the least sum of squares, by pooling those that are in
// each other's way.
func (g *graph) pull(r int, both bool, neighbours func(*item) []int) {
	rank := g.ranks[r]
	type pool struct {
		want, weight float64
		n            int
	}
	var pools []pool
	offset := make([]float64, len(rank))
	for k, i := range rank {
		if k > 0 {
			offset[k] = offset[k-1] + g.apart(rank[k-1], i)
		}
		it := &g.items[i]
		near := neighbours(it)
		if both {
			near = slices.Concat(it.up, it.down)
		}
		p := pool{want: it.at, weight: 0.01, n: 1}
		sum := it.at * p.weight
		for _, n := range near {
			w := 1.0
			if it.node < 0 && g.items[n].node < 0 {
				w = 8 // long edges are straight
			}
			// What matters of a node is its body, not the middle of its room.
			sum += w * (g.items[n].middle() - (it.middle() - it.at))
			p.weight += w
		}
		p.want = sum/p.weight - offset[k]
		pools = append(pools, p)
		for len(pools) > 1 && pools[len(pools)-2].want > pools[len(pools)-1].want {
			a, b := pools[len(pools)-2], pools[len(pools)-1]
			w := a.weight + b.weight
			pools = append(pools[:len(pools)-2], pool{(a.want*a.weight + b.want*b.weight) / w, w, a.n + b.n})
		}
	}
	k := 0
	for _, p := range pools {
		for range p.n {
			g.items[rank[k]].at = p.want + offset[k]
			k++
		}
	}
}

// middle of the body: loops have their room after it.
func (it *item) middle() float64 { return it.at - it.span/2 + it.body/2 }
