// Package layout places the boxes of a directed graph in ranks and leads its
// edges between them, after Sugiyama: cycles are opened, nodes ranked, what
// crosses is put in order, then everything moves to where its neighbours are.
// Every edge has a label, which is placed like a node, so that no label lies on
// another or on a box.
//
// The same graph is always drawn the same way. [Draw] is all there is to call.
package layout

// Node is a box.
type Node struct{ W, H float64 }

// Edge goes from one node to another, by their index, and may go back to the
// same one. W and H are of its label.
type Edge struct {
	From, To int
	W, H     float64
}

// Point on the drawing; y grows downwards.
type Point struct{ X, Y float64 }

// Route is how an edge goes.
type Route struct {
	// Points are where it begins, then three for each cubic Bézier curve.
	Points []Point
	Label  Point // its middle
}

// Drawing is a graph with places.
type Drawing struct {
	W, H  float64
	Nodes []Point // their middles
	Edges []Route
}

// Direction of the edges.
type Direction int

const (
	Down Direction = iota
	Right
)

// Distances between what is drawn.
const (
	margin  = 12
	between = 18 // neighbours in a rank
	rankGap = 26 // ranks, with room for an arrow and a bend
	bendGap = 12 // edges side by side
)

// Draw places the graph.
func Draw(nodes []Node, edges []Edge, dir Direction) Drawing {
	g := build(nodes, edges, dir)
	g.order()
	g.place()
	return g.drawing()
}

// Best is the direction in which the drawing is no wider than width, else the
// narrower one. When both fit it is the one with the smaller area.
func Best(nodes []Node, edges []Edge, width float64) Drawing {
	down, right := Draw(nodes, edges, Down), Draw(nodes, edges, Right)
	fits := func(d Drawing) bool { return d.W <= width }
	switch {
	case fits(right) && fits(down):
		if right.W*right.H < down.W*down.H {
			return right
		}
	case fits(right) || !fits(down) && right.W < down.W:
		return right
	}
	return down
}
