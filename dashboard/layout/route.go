package layout

import (
	"cmp"
	"slices"
)

// drawing turns ranks and places into coordinates.
func (g *graph) drawing() Drawing {
	begin, length := g.depths()
	var width float64
	for _, it := range g.items {
		width = max(width, it.at+it.span/2)
	}
	d := Drawing{Edges: make([]Route, len(g.edges))}
	d.W, d.H = g.turned(width+margin, length)
	middle := func(i int) float64 { return begin[g.items[i].rank] + g.thick[g.items[i].rank]/2 }
	for i := range g.nodes {
		d.Nodes = append(d.Nodes, g.point(g.items[i].middle(), middle(i)))
	}
	out, in := g.doors()
	for e := range g.edges {
		if g.chain[e] == nil {
			continue
		}
		d.Edges[e] = g.route(e, out[e], in[e], middle)
	}
	g.loops(d.Edges, middle)
	return d
}

// depths are where each rank begins and where all end. How thick each is stays
// in the graph.
func (g *graph) depths() (begin []float64, length float64) {
	begin, g.thick = make([]float64, len(g.ranks)), make([]float64, len(g.ranks))
	length = margin
	for r, rank := range g.ranks {
		for _, i := range rank {
			g.thick[r] = max(g.thick[r], g.items[i].thick)
		}
		if r > 0 {
			length += rankGap
		}
		begin[r] = length
		length += g.thick[r]
	}
	return begin, length + margin
}

// point from places across and along the edges.
func (g *graph) point(across, along float64) Point {
	if g.dir == Right {
		return Point{along, across}
	}
	return Point{across, along}
}

// doors are the places across at which each edge leaves its lower and reaches
// its higher node: side by side, in the order of where they go.
func (g *graph) doors() (out, in []float64) {
	out, in = make([]float64, len(g.edges)), make([]float64, len(g.edges))
	leaving, reaching := make([][]int, len(g.nodes)), make([][]int, len(g.nodes))
	for e, chain := range g.chain {
		if chain == nil {
			continue
		}
		leaving[chain[0]] = append(leaving[chain[0]], e)
		last := chain[len(chain)-1]
		reaching[last] = append(reaching[last], e)
	}
	for n := range g.nodes {
		it := &g.items[n]
		spread(leaving[n], out, it, func(e int) float64 { return g.items[g.chain[e][1]].at })
		spread(reaching[n], in, it, func(e int) float64 { return g.items[g.chain[e][len(g.chain[e])-2]].at })
	}
	return out, in
}

func spread(edges []int, door []float64, it *item, toward func(int) float64) {
	slices.SortStableFunc(edges, func(a, b int) int { return cmp.Compare(toward(a), toward(b)) })
	step := min(bendGap*2, it.body*0.8/float64(max(1, len(edges))))
	for k, e := range edges {
		door[e] = it.middle() + step*(float64(k)-float64(len(edges)-1)/2)
	}
}

// route leads an edge from bend to bend.
func (g *graph) route(e int, out, in float64, middle func(int) float64) Route {
	chain := g.chain[e]
	var r Route
	type stop struct{ across, along float64 }
	var stops []stop
	for k, i := range chain {
		it := &g.items[i]
		switch {
		case k == 0:
			stops = append(stops, stop{out, middle(i) + g.half(i)})
		case k == len(chain)-1:
			stops = append(stops, stop{in, middle(i) - g.half(i)})
		default:
			// Straight through the rank, so that it touches none of its boxes.
			stops = append(stops, stop{it.at, middle(i) - g.half(i)}, stop{it.at, middle(i) + g.half(i)})
			if it.thick > 0 {
				r.Label = g.point(it.at, middle(i))
			}
		}
	}
	r.Points = []Point{g.point(stops[0].across, stops[0].along)}
	for k, s := range stops[1:] {
		from := stops[k]
		half := (from.along + s.along) / 2
		r.Points = append(r.Points, g.point(from.across, half), g.point(s.across, half), g.point(s.across, s.along))
	}
	if g.reversed[e] {
		slices.Reverse(r.Points)
	}
	return r
}

// half of a node along the edges, without its loops; of a bend, half the rank.
func (g *graph) half(i int) float64 {
	it := &g.items[i]
	if it.node < 0 {
		return g.thick[it.rank] / 2
	}
	_, along := g.turned(g.nodes[it.node].W, g.nodes[it.node].H)
	return along / 2
}

// loops lead edges from a node back to itself, beside it.
func (g *graph) loops(routes []Route, middle func(int) float64) {
	used := make([]float64, len(g.nodes))
	for e, edge := range g.edges {
		if edge.From != edge.To {
			continue
		}
		it := &g.items[edge.From]
		across, _ := g.turned(edge.W, edge.H)
		side := it.middle() + it.body/2
		if used[edge.From] == 0 {
			used[edge.From] = side
		}
		at := used[edge.From] + rankGap + across/2
		used[edge.From] += loopRoom(across)
		along := middle(edge.From)
		q := g.half(edge.From) / 2
		routes[e] = Route{Label: g.point(at, along), Points: []Point{
			g.point(side, along-q), g.point(side+rankGap, along-q*2), g.point(at, along-q*2), g.point(at, along),
			g.point(at, along+q*2), g.point(side+rankGap, along+q*2), g.point(side, along+q),
		}}
	}
}
