package layout_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hasp/dashboard/layout"
)

const labelW, labelH = 100, 30

// graph of edges between nodes that are numbers.
func graph(n int, edges ...[2]int) ([]layout.Node, []layout.Edge) {
	nodes := make([]layout.Node, n)
	for i := range nodes {
		nodes[i] = layout.Node{W: 80 + float64(i%4)*20, H: 40}
	}
	var es []layout.Edge
	for _, e := range edges {
		es = append(es, layout.Edge{From: e[0], To: e[1], W: labelW, H: labelH})
	}
	return nodes, es
}

func TestDraw(t *testing.T) {
	for name, c := range map[string]struct {
		n     int
		edges [][2]int
	}{
		"nothing":          {},
		"alone":            {n: 1},
		"one call":         {2, [][2]int{{0, 1}}},
		"a diamond":        {4, [][2]int{{0, 1}, {0, 2}, {1, 3}, {2, 3}}},
		"two ports":        {2, [][2]int{{0, 1}, {0, 1}, {0, 1}}},
		"both ways":        {2, [][2]int{{0, 1}, {1, 0}}},
		"itself":           {2, [][2]int{{0, 0}, {0, 1}, {1, 1}, {1, 1}}},
		"a ring":           {4, [][2]int{{0, 1}, {1, 2}, {2, 3}, {3, 0}}},
		"past others":      {4, [][2]int{{0, 1}, {1, 2}, {2, 3}, {0, 3}, {0, 2}}},
		"two meshes":       {4, [][2]int{{0, 1}, {2, 3}}},
		"a late caller":    {5, [][2]int{{0, 1}, {1, 2}, {2, 3}, {4, 3}}},
		"everybody to one": {9, [][2]int{{0, 8}, {1, 8}, {2, 8}, {3, 8}, {4, 8}, {5, 8}, {6, 8}, {7, 8}}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, dir := range []layout.Direction{layout.Down, layout.Right} {
				nodes, edges := graph(c.n, c.edges...)
				check(t, nodes, edges, dir)
			}
		})
	}
}

// TestDrawn draws whatever may come.
func TestDrawn(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		n := 1 + r.IntN(30)
		var edges [][2]int
		for range r.IntN(60) {
			edges = append(edges, [2]int{r.IntN(n), r.IntN(n)})
		}
		nodes, es := graph(n, edges...)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { check(t, nodes, es, layout.Direction(seed%2)) })
	}
}

// check that nothing lies on anything, all is on the drawing, and every edge
// goes from its one node to its other.
func check(t *testing.T, nodes []layout.Node, edges []layout.Edge, dir layout.Direction) {
	t.Helper()
	d := layout.Draw(nodes, edges, dir)
	if diff := cmp.Diff(d, layout.Draw(nodes, edges, dir)); diff != "" {
		t.Errorf("the same graph is drawn in two ways:\n%s", diff)
	}
	type box struct {
		name       string
		x, y, w, h float64
	}
	var boxes []box
	for i, n := range nodes {
		boxes = append(boxes, box{fmt.Sprint("node ", i), d.Nodes[i].X, d.Nodes[i].Y, n.W, n.H})
	}
	for i, e := range edges {
		boxes = append(boxes, box{fmt.Sprint("label ", i), d.Edges[i].Label.X, d.Edges[i].Label.Y, e.W, e.H})
	}
	for i, a := range boxes {
		if a.x-a.w/2 < 0 || a.y-a.h/2 < 0 || a.x+a.w/2 > d.W || a.y+a.h/2 > d.H {
			t.Errorf("%s is not on the drawing of %gx%g: %+v", a.name, d.W, d.H, a)
		}
		for _, b := range boxes[i+1:] {
			if math.Abs(a.x-b.x) < (a.w+b.w)/2-1e-6 && math.Abs(a.y-b.y) < (a.h+b.h)/2-1e-6 {
				t.Errorf("%s lies on %s: %+v %+v", a.name, b.name, a, b)
			}
		}
	}
	for i, e := range edges {
		p := d.Edges[i].Points
		if len(p) < 4 || len(p)%3 != 1 {
			t.Fatalf("edge %d has %d points", i, len(p))
		}
		for _, end := range []struct {
			node int
			at   layout.Point
		}{{e.From, p[0]}, {e.To, p[len(p)-1]}} {
			n, at := nodes[end.node], d.Nodes[end.node]
			if math.Abs(end.at.X-at.X) > n.W/2+1e-6 || math.Abs(end.at.Y-at.Y) > n.H/2+1e-6 {
				t.Errorf("edge %d from %d to %d ends at %+v, not at node %d at %+v", i, e.From, e.To, end.at, end.node, at)
			}
		}
		if i := closest(p, d.Edges[i].Label); i > 1 {
			t.Errorf("the label is %g away from its edge", i)
		}
	}
}

// closest is how near a route comes to a point, at the ends of its curves and
// their middles.
func closest(p []layout.Point, to layout.Point) float64 {
	best := math.Inf(1)
	for i := 0; i+3 < len(p); i += 3 {
		for _, at := range []layout.Point{p[i], p[i+3], {X: (p[i].X + 3*p[i+1].X + 3*p[i+2].X + p[i+3].X) / 8, Y: (p[i].Y + 3*p[i+1].Y + 3*p[i+2].Y + p[i+3].Y) / 8}} {
			best = min(best, math.Hypot(at.X-to.X, at.Y-to.Y))
		}
	}
	return best
}

// TestStraight: what calls in a line is drawn in a line, callers above the
// called.
func TestStraight(t *testing.T) {
	nodes, edges := graph(4, [2]int{0, 1}, [2]int{1, 2}, [2]int{2, 3})
	d := layout.Draw(nodes, edges, layout.Down)
	for i := 1; i < 4; i++ {
		if math.Abs(d.Nodes[i].X-d.Nodes[0].X) > 1 || d.Nodes[i].Y <= d.Nodes[i-1].Y {
			t.Errorf("node %d is at %+v, the first at %+v", i, d.Nodes[i], d.Nodes[0])
		}
	}
}

// TestBest: a drawing is not wider than it has to be.
func TestBest(t *testing.T) {
	var fan [][2]int
	for i := 1; i < 20; i++ {
		fan = append(fan, [2]int{0, i})
	}
	nodes, edges := graph(20, fan...)
	if d := layout.Best(nodes, edges, 1000); d.W > 1000 {
		t.Errorf("19 that are called by one are drawn %g wide", d.W)
	}
	chain := make([][2]int, 0, 19)
	for i := range 19 {
		chain = append(chain, [2]int{i, i + 1})
	}
	nodes, edges = graph(20, chain...)
	if d := layout.Best(nodes, edges, 1000); d.W > 1000 {
		t.Errorf("20 in a line are drawn %g wide", d.W)
	}
}

func BenchmarkDraw(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	var edges [][2]int
	for range 240 {
		edges = append(edges, [2]int{r.IntN(120), r.IntN(120)})
	}
	nodes, es := graph(120, edges...)
	for b.Loop() {
		layout.Best(nodes, es, 1160)
	}
}
