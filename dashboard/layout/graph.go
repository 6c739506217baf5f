package layout

import "slices"

// item is a node, or a bend: where an edge passes a rank. The middle bend of an
// edge carries its label.
type item struct {
	node int // -1 for a bend
	rank int
	// thick is its size along the edges, span across them. A node's loops are
	// beside it: span is the room of both, body the node's own.
	thick, span, body float64
	up, down          []int // items of the ranks before and after
	at                float64
}

type graph struct {
	dir   Direction
	nodes []Node
	edges []Edge
	items []item  // the nodes first
	ranks [][]int // items, in order
	thick []float64
	// chain of an edge: the items it passes, from lower to higher rank. Nil for
	// a loop.
	chain    [][]int
	reversed []bool
}

func build(nodes []Node, edges []Edge, dir Direction) *graph {
	g := &graph{dir: dir, nodes: nodes, edges: edges, chain: make([][]int, len(edges))}
	g.reversed = backward(len(nodes), edges)
	rank := g.rankNodes()
	for i, n := range nodes {
		across, along := g.turned(n.W, n.H)
		g.items = append(g.items, item{node: i, rank: rank[i], thick: along, span: across, body: across})
	}
	for e, edge := range edges {
		across, along := g.turned(edge.W, edge.H)
		if edge.From == edge.To {
			n := &g.items[edge.From]
			n.span += loopRoom(across)
			n.thick = max(n.thick, along)
			continue
		}
		from, to := g.ends(e)
		middle := (rank[from] + rank[to]) / 2
		last := from
		g.chain[e] = []int{from}
		for r := rank[from] + 1; r < rank[to]; r++ {
			b := item{node: -1, rank: r, span: bendGap}
			if r == middle {
				b.thick, b.span = along, across
			}
			b.body = b.span
			g.items = append(g.items, b)
			g.link(last, len(g.items)-1)
			last = len(g.items) - 1
			g.chain[e] = append(g.chain[e], last)
		}
		g.link(last, to)
		g.chain[e] = append(g.chain[e], to)
	}
	for i, it := range g.items {
		for it.rank >= len(g.ranks) {
			g.ranks = append(g.ranks, nil)
		}
		g.ranks[it.rank] = append(g.ranks[it.rank], i)
	}
	return g
}

func loopRoom(across float64) float64 { return across + rankGap }

// turned is a width and a height as sizes across and along the edges.
func (g *graph) turned(w, h float64) (across, along float64) {
	if g.dir == Right {
		return h, w
	}
	return w, h
}

// ends of an edge, the one of the lower rank first.
func (g *graph) ends(e int) (from, to int) {
	if g.reversed[e] {
		return g.edges[e].To, g.edges[e].From
	}
	return g.edges[e].From, g.edges[e].To
}

func (g *graph) link(a, b int) {
	g.items[a].down = append(g.items[a].down, b)
	g.items[b].up = append(g.items[b].up, a)
}

// backward are the edges that close a cycle when the graph is walked from the
// nodes that nobody calls.
func backward(n int, edges []Edge) []bool {
	out, called := make([][]int, n), make([]bool, n)
	for e, edge := range edges {
		if edge.From != edge.To {
			out[edge.From] = append(out[edge.From], e)
			called[edge.To] = true
		}
	}
	const (
		unseen = iota
		open
		done
	)
	state, back := make([]int, n), make([]bool, len(edges))
	var walk func(int)
	walk = func(v int) {
		state[v] = open
		for _, e := range out[v] {
			switch state[edges[e].To] {
			case open:
				back[e] = true
			case unseen:
				walk(edges[e].To)
			}
		}
		state[v] = done
	}
	for _, first := range []bool{true, false} {
		for v := range n {
			if state[v] == unseen && called[v] != first {
				walk(v)
			}
		}
	}
	return back
}

// rankNodes gives each node the even rank after all that call it, so that a
// label fits between any two; who is not called stands just before the first it
// calls.
func (g *graph) rankNodes() []int {
	n := len(g.nodes)
	out, waits := make([][]int, n), make([]int, n)
	for e, edge := range g.edges {
		if edge.From == edge.To {
			continue
		}
		from, to := g.ends(e)
		out[from] = append(out[from], to)
		waits[to]++
	}
	uncalled := make([]bool, n)
	var ready []int
	for v := range n {
		if uncalled[v] = waits[v] == 0; uncalled[v] {
			ready = append(ready, v)
		}
	}
	rank := make([]int, n)
	for i := 0; i < len(ready); i++ {
		for _, to := range out[ready[i]] {
			rank[to] = max(rank[to], rank[ready[i]]+2)
			if waits[to]--; waits[to] == 0 {
				ready = append(ready, to)
			}
		}
	}
	for v := range n {
		if !uncalled[v] || len(out[v]) == 0 {
			continue
		}
		first := slices.MinFunc(out[v], func(a, b int) int { return rank[a] - rank[b] })
		rank[v] = rank[first] - 2
	}
	return rank
}
