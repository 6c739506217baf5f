package dashboard

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"hasp/dashboard/layout"
	"hasp/truth"
)

const (
	// maxNodes and maxEdges bound what is drawn. Nobody sees anything in more; the
	// list has them all.
	maxNodes, maxEdges = 120, 240
	// drawingWidth is what fits on a common screen.
	drawingWidth       = 1160
	nodeHeight         = 46
	labelW, labelH     = 172, 38
	nameRunes          = 24
	rememberedDrawings = 16
)

// picture is a graph, ready to be drawn and listed.
type picture struct {
	truth.Graph
	Width  int
	Height int
	Nodes  []box
	Edges  []line // by From, To, Port
	Listed []line // the worst first
	// TooLarge to be drawn.
	TooLarge bool
}

type box struct {
	truth.GraphNode
	X, Y, W, H float64 // its upper left corner
	Label      string
	Below      string
	Href       string
}

type line struct {
	truth.GraphEdge
	Window time.Duration
	Path   string
	X, Y   float64 // the label's upper left corner
	W, H   float64
	Href   string
	// Effect of a candidate, "" without one.
	Effect string
	Ghost  bool // not in the graph of now
}

// pictureOf lays the graph out, or takes the places of one of the same shape, so
// that nothing moves when only numbers change.
func (l *layouts) pictureOf(g truth.Graph, effects []truth.Effect) picture {
	p := picture{Graph: g}
	index := map[string]int{}
	for _, n := range g.Nodes {
		index[n.ID] = len(p.Nodes)
		p.Nodes = append(p.Nodes, boxOf(n))
	}
	for _, e := range g.Edges {
		p.Edges = append(p.Edges, line{GraphEdge: e})
	}
	p.apply(effects, index)
	for i := range p.Edges {
		e := &p.Edges[i]
		e.Window, e.Href = g.Window, edgeHref(e.From, e.To, e.Port)
	}
	p.Listed = slices.Clone(p.Edges)
	slices.SortStableFunc(p.Listed, func(a, b line) int { return cmp.Compare(a.rank(), b.rank()) })
	if p.TooLarge = len(p.Nodes) > maxNodes || len(p.Edges) > maxEdges; !p.TooLarge {
		p.place(l, index)
	}
	return p
}

// apply marks the lines that a candidate would change, and adds those that
// nobody has used lately.
func (p *picture) apply(effects []truth.Effect, index map[string]int) {
	for _, f := range effects {
		from, to := f.Source.ID(), f.Destination.ID()
		i := slices.IndexFunc(p.Edges, func(e line) bool {
			return e.From == from && e.To == to && e.Port == f.Port
		})
		if i < 0 {
			for _, party := range []truth.Party{f.Source, f.Destination} {
				if _, known := index[party.ID()]; !known {
					index[party.ID()] = len(p.Nodes)
					p.Nodes = append(p.Nodes, boxOf(nodeOf(party)))
				}
			}
			i = len(p.Edges)
			p.Edges = append(p.Edges, line{Ghost: true, GraphEdge: truth.GraphEdge{
				From: from, To: to, Service: f.Service, Port: f.Port, Last: f.Last,
			}})
		}
		if p.Edges[i].Effect == "" { // the worst are first
			p.Edges[i].Effect = f.What
		}
	}
}

// nodeOf a party that is not in the graph.
func nodeOf(p truth.Party) truth.GraphNode {
	return truth.GraphNode{ID: p.ID(), Namespace: p.Namespace, Name: cmp.Or(p.Owner, p.Process, p.Address), Kind: p.Kind, Meshed: p.Meshed}
}

func boxOf(n truth.GraphNode) box {
	b := box{GraphNode: n, H: nodeHeight, Label: short(cmp.Or(n.Name, n.ID), nameRunes), Href: nodeHref(n.ID)}
	b.Below = n.Namespace
	switch {
	case n.Namespace == "":
		b.Below = map[string]string{truth.KindHost: "a node of the cluster", truth.KindProcess: "a process of this machine", truth.KindUnknown: "addresses without number"}[n.Kind]
		b.Below = cmp.Or(b.Below, "outside")
	case n.Kind == truth.KindGateway:
		b.Below += " · gateway"
	case !n.Meshed:
		b.Below += " · no proxy"
	}
	b.Below = short(b.Below, nameRunes+4)
	wide := max(float64(utf8.RuneCountInString(b.Label))*7.8, float64(utf8.RuneCountInString(b.Below))*6.4)
	b.W = max(96, wide+28)
	return b
}

// Inner is a length within the border.
func (b box) Inner(outer float64) float64 { return outer - 2 }

// Round is how round the corners are: what is outside looks like no service.
func (b box) Round() int {
	if b.Namespace == "" {
		return 22
	}
	return 8
}

func (p *picture) place(l *layouts, index map[string]int) {
	var shape strings.Builder
	nodes := make([]layout.Node, len(p.Nodes))
	for i, n := range p.Nodes {
		nodes[i] = layout.Node{W: n.W, H: n.H}
		fmt.Fprintf(&shape, "%q %v\n", n.ID, n.W)
	}
	var edges []layout.Edge
	for _, e := range p.Edges {
		from, known := index[e.From]
		to, also := index[e.To]
		if !known || !also {
			p.TooLarge = true // not a graph: the list says what there is
			return
		}
		edges = append(edges, layout.Edge{From: from, To: to, W: labelW, H: labelH})
		fmt.Fprintf(&shape, "%d %d\n", from, to)
	}
	d := l.draw(shape.String(), nodes, edges)
	p.Width, p.Height = int(d.W+0.5), int(d.H+0.5)
	for i, at := range d.Nodes {
		n := &p.Nodes[i]
		n.X, n.Y = at.X-n.W/2, at.Y-n.H/2
	}
	for i, r := range d.Edges {
		e := &p.Edges[i]
		e.Path, e.W, e.H = path(r.Points), labelW, labelH
		e.X, e.Y = r.Label.X-labelW/2, r.Label.Y-labelH/2
	}
}

// path of cubic curves, as SVG writes it.
func path(points []layout.Point) string {
	var b strings.Builder
	for i, p := range points {
		switch {
		case i == 0:
			b.WriteByte('M')
		case i%3 == 1:
			b.WriteByte('C')
		default:
			b.WriteByte(' ')
		}
		b.WriteString(strconv.FormatFloat(p.X, 'f', 1, 64))
		b.WriteByte(',')
		b.WriteString(strconv.FormatFloat(p.Y, 'f', 1, 64))
	}
	return b.String()
}

// layouts remembers the places of the last shapes.
type layouts struct {
	mu    sync.Mutex
	known map[string]layout.Drawing
	order []string // the oldest first
}

func (l *layouts) draw(shape string, nodes []layout.Node, edges []layout.Edge) layout.Drawing {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d, ok := l.known[shape]; ok {
		return d
	}
	d := layout.Best(nodes, edges, drawingWidth)
	if l.known == nil {
		l.known = map[string]layout.Drawing{}
	}
	if l.order = append(l.order, shape); len(l.order) > rememberedDrawings {
		delete(l.known, l.order[0])
		l.order = l.order[1:]
	}
	l.known[shape] = d
	return d
}

// Key tells the line from others.
func (e line) Key() string { return fmt.Sprintf("%s %s %d %s", e.From, e.To, e.Port, e.Service) }

// Inner is a length within the label's border.
func (e line) Inner(outer float64) float64 { return outer - 2 }

// ShareX is where the share of mutual TLS ends.
func (e line) ShareX() float64 { return e.W - 9 }

// rank for the list: what needs a person first.
func (e line) rank() int {
	if e.Effect != "" {
		return slices.Index([]string{truth.Cut, truth.Weakened, truth.Reset, truth.Freed, truth.Upgraded}, e.Effect) - 10
	}
	return slices.Index([]string{"open", "refused", "partial", "closed"}, e.Lock)
}

// Class of the line in the drawing: its effect, else its lock.
func (e line) Class() string {
	if e.Effect != "" {
		return e.Effect
	}
	return cmp.Or(e.Lock, "none")
}

// Icon is the lock the line wears, with a candidate the one it would wear.
func (e line) Icon() string {
	switch e.Effect {
	case truth.Cut:
		return "refused"
	case truth.Upgraded:
		return "closed"
	case truth.Weakened:
		return "open"
	case truth.Freed:
		return "partial"
	}
	return cmp.Or(e.Lock, "open")
}

// EffectWord is what a candidate would do to the line.
func (e line) EffectWord() string { return effectWord(e.Effect) }

func effectWord(what string) string {
	switch what {
	case truth.Cut:
		return "would be cut"
	case truth.Upgraded:
		return "would be mutual TLS"
	case truth.Weakened:
		return "would be plaintext"
	case truth.Reset:
		return "would connect anew"
	case truth.Freed:
		return "would be let in"
	}
	return what
}

// Share is how much of what was let in is mutual TLS.
func (e line) Share() float64 {
	if all := e.MutualTLS + e.Plaintext; all > 0 {
		return float64(e.MutualTLS) / float64(all)
	}
	return 0
}

// Let counts the connections that were let in.
func (e line) Let() uint64 { return e.MutualTLS + e.Plaintext }

// Numbers are the second line of the label.
func (e line) Numbers() string {
	switch {
	case e.Effect != "":
		return e.EffectWord()
	case e.Lock == "refused":
		return count(e.Refused, "time", "times")
	case e.Requests > 0:
		s := e.Rate()
		if e.Errors > 0 {
			s += " · " + count(e.Errors, "error", "errors")
		} else if e.P99 > 0 && !e.old() {
			s += " · " + took(e.P50) + " / " + took(e.P99)
		}
		return s
	}
	if e.old() {
		return e.Rate()
	}
	return e.Rate() + " · " + size((e.Sent+e.Received)/uint64(max(1, e.Window/time.Second))) + "/s"
}

// old figures are of all that is remembered: no rate is made of them.
func (e line) old() bool { return e.Window > truth.MaxWindow }

// Rate of requests, where they can be told apart, else the open connections.
func (e line) Rate() string {
	switch {
	case e.Requests > 0 && e.old():
		return count(e.Requests, "request", "requests")
	case e.Requests > 0:
		return per(e.Requests, e.Window)
	case e.old():
		return count(e.Let(), "connection", "connections")
	}
	return strconv.FormatUint(e.Open, 10) + " open"
}

// Head is the first line of the label.
func (e line) Head() string {
	s := ":" + strconv.Itoa(int(e.Port))
	if e.Protocol != "" {
		s += " " + string(e.Protocol)
	}
	return s
}

// Sentence is the line for who does not see it.
func (e line) Sentence() string {
	s := fmt.Sprintf("%s to %s, port %d: %s", e.From, e.To, e.Port, lockWord(e.Lock))
	if e.Lock == "partial" {
		s += ", " + percent(e.Share())
	}
	if e.Effect != "" {
		return s + ", " + e.EffectWord()
	}
	if e.Requests > 0 {
		s += ", " + e.Rate()
	}
	if e.Errors > 0 {
		s += ", " + count(e.Errors, "error", "errors")
	}
	if e.Disagreement != "" {
		s += ", the two ends disagree"
	}
	return s
}

// Summary is the graph in a sentence. It changes only when a lock does, so that
// a screen reader is not made to read numbers all day.
func (p picture) Summary() string {
	if len(p.Edges) == 0 {
		return "Nobody talks to anybody."
	}
	var closed int
	var named []string
	for _, e := range p.Listed {
		if e.Lock == "closed" {
			closed++
		} else if e.Lock != "" && len(named) < 3 {
			named = append(named, fmt.Sprintf("%s to %s %s", e.From, e.To, lockWord(e.Lock)))
		}
	}
	if closed == len(p.Edges) {
		return fmt.Sprintf("All %s mutual TLS.", count(closed, "edge is", "edges are"))
	}
	s := fmt.Sprintf("%d of %s mutual TLS", closed, count(len(p.Edges), "edge is", "edges are"))
	if len(named) > 0 {
		s += ": " + strings.Join(named, ", ")
	}
	if rest := len(p.Edges) - closed - len(named); rest > 0 {
		s += fmt.Sprintf(" and %d more", rest)
	}
	return s + "."
}

// belongs reports whether a party is of a node: by Deployment or pod, or by an
// address that is the node's or in its network.
func belongs(p truth.Party, node string) bool {
	if p.Workload == node || p.ID() == node {
		return true
	}
	if p.Workload != "" {
		return false
	}
	network, err := netip.ParsePrefix(node)
	if err != nil {
		a, err := netip.ParseAddr(node)
		if err != nil {
			return false
		}
		network = netip.PrefixFrom(a, a.BitLen())
	}
	if ap, err := netip.ParseAddrPort(p.Address); err == nil {
		return network.Contains(ap.Addr())
	}
	if of, err := netip.ParsePrefix(p.Address); err == nil {
		return network.Overlaps(of)
	}
	a, err := netip.ParseAddr(p.Address)
	return err == nil && network.Contains(a)
}
