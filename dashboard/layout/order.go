package layout

import (
	"cmp"
	"slices"
)

// sweeps over the ranks; more change little.
const sweeps = 12

// order sorts each rank by where the neighbours are, down and up again, and
// keeps what crosses least.
func (g *graph) order() {
	best, least := g.copyRanks(), g.crossings()
	for i := range sweeps {
		if i%2 == 0 {
			for r := 1; r < len(g.ranks); r++ {
				g.sortRank(r, func(it *item) []int { return it.up })
			}
		} else {
			for r := len(g.ranks) - 2; r >= 0; r-- {
				g.sortRank(r, func(it *item) []int { return it.down })
			}
		}
		if c := g.crossings(); c < least {
			best, least = g.copyRanks(), c
		}
		if least == 0 {
			break
		}
	}
	g.ranks = best
}

func (g *graph) copyRanks() [][]int {
	c := make([][]int, len(g.ranks))
	for r := range g.ranks {
		c[r] = slices.Clone(g.ranks[r])
	}
	return c
}

// positions of the items in their ranks.
func (g *graph) positions() []int {
	pos := make([]int, len(g.items))
	for _, rank := range g.ranks {
		for p, i := range rank {
			pos[i] = p
		}
	}
	return pos
}

func (g *graph) sortRank(r int, neighbours func(*item) []int) {
	pos := g.positions()
	key := map[int]float64{}
	for p, i := range g.ranks[r] {
		key[i] = float64(p)
		near := neighbours(&g.items[i])
		if len(near) == 0 {
			continue
		}
		sum := 0
		for _, n := range near {
			sum += pos[n]
		}
		key[i] = float64(sum) / float64(len(near))
	}
	slices.SortStableFunc(g.ranks[r], func(a, b int) int { return cmp.Compare(key[a], key[b]) })
}

// crossings of edges between neighbouring ranks.
func (g *graph) crossings() int {
	pos := g.positions()
	n := 0
	for _, rank := range g.ranks {
		var ends []int // positions below, of edges in their order above
		for _, i := range rank {
			begin := len(ends)
			for _, d := range g.items[i].down {
				ends = append(ends, pos[d])
			}
			slices.Sort(ends[begin:])
		}
		for i, a := range ends {
			for _, b := range ends[i+1:] {
				if a > b {
					n++
				}
			}
		}
	}
	return n
}
