package dashboard

import (
	"cmp"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"hasp/mesh"
	"hasp/truth"
)

// maxRows of a table of connections; the JSON has them all.
const maxRows = 200

// windows that the graph offers.
var windows = []struct {
	Query, Name string
	D           time.Duration
}{
	{"10s", "10 seconds", 10 * time.Second}, {"1m", "1 minute", time.Minute}, {"all", "all that is remembered", maxWindow},
}

func (s *site) home(w http.ResponseWriter, r *http.Request) {
	window, err := windowOf(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	g, err := s.backend.Graph(r.Context(), window)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	namespace := r.FormValue("namespace")
	body := struct {
		Picture    picture
		Namespace  string
		Namespaces []string
		Windows    any
		Query      string // of the window
	}{Namespace: namespace, Namespaces: namespacesOf(g), Windows: windows}
	for _, o := range windows {
		if o.D == window {
			body.Query = o.Query
		}
	}
	body.Picture = s.layouts.pictureOf(within(g, namespace), nil)
	s.show(w, "home", http.StatusOK, view{Title: "Services", Nav: "home", Live: true, Body: body}.of(g))
}

func namespacesOf(g truth.Graph) []string {
	var all []string
	for _, n := range g.Nodes {
		if n.Namespace != "" {
			all = append(all, n.Namespace)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// within is the part of a graph that touches a namespace; all of it for "".
func within(g truth.Graph, namespace string) truth.Graph {
	if namespace == "" {
		return g
	}
	in, near := map[string]bool{}, map[string]bool{}
	for _, n := range g.Nodes {
		in[n.ID] = n.Namespace == namespace
	}
	part := g
	part.Edges, part.Nodes = nil, nil
	for _, e := range g.Edges {
		if in[e.From] || in[e.To] {
			part.Edges = append(part.Edges, e)
			near[e.From], near[e.To] = true, true
		}
	}
	for _, n := range g.Nodes {
		if in[n.ID] || near[n.ID] {
			part.Nodes = append(part.Nodes, n)
		}
	}
	return part
}

func (s *site) edge(w http.ResponseWriter, r *http.Request) {
	from, to := r.FormValue("from"), r.FormValue("to")
	port, _ := strconv.ParseUint(r.FormValue("port"), 10, 16)
	g, err := s.backend.Graph(r.Context(), maxWindow)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	links, err := s.backend.Links(r.Context(), "")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	body := struct {
		From, To   string
		Port       uint16
		Edge       *line // nil when nothing is remembered
		FromNode   truth.GraphNode
		ToNode     truth.GraphNode
		Links      []truth.Link
		More       int
		LastMinute *line
	}{From: from, To: to, Port: uint16(port)}
	same := func(e truth.GraphEdge) bool { return e.From == from && e.To == to && e.Port == body.Port }
	if i := slices.IndexFunc(g.Edges, same); i >= 0 {
		body.Edge = &line{GraphEdge: g.Edges[i], Window: g.Window}
	}
	for _, n := range g.Nodes {
		if n.ID == from {
			body.FromNode = n
		}
		if n.ID == to {
			body.ToNode = n
		}
	}
	now, err := s.backend.Graph(r.Context(), defaultWindow)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if i := slices.IndexFunc(now.Edges, same); i >= 0 {
		body.LastMinute = &line{GraphEdge: now.Edges[i], Window: now.Window}
	}
	links = slices.DeleteFunc(slices.Clone(links), func(l truth.Link) bool {
		return l.Port != body.Port || !belongs(l.Source, from) || !belongs(l.Destination, to)
	})
	body.Links, body.More = first(links)
	status := http.StatusOK
	if body.Edge == nil && len(links) == 0 {
		status = http.StatusNotFound
	}
	s.show(w, "edge", status, view{Title: from + " to " + to, Nav: "home", Live: true, Body: body}.of(now))
}

// first rows of a table, the newest first, and how many more there are.
func first(links []truth.Link) ([]truth.Link, int) {
	slices.SortStableFunc(links, func(a, b truth.Link) int {
		if a.End.IsZero() != b.End.IsZero() {
			if a.End.IsZero() {
				return -1
			}
			return 1
		}
		return b.Start.Compare(a.Start)
	})
	n := min(len(links), maxRows)
	return links[:n], len(links) - n
}

func (s *site) workload(w http.ResponseWriter, r *http.Request) {
	s.node(w, r, r.PathValue("namespace")+"/"+r.PathValue("name"))
}

func (s *site) outside(w http.ResponseWriter, r *http.Request) { s.node(w, r, r.FormValue("address")) }

// node is the page of a Deployment, a pod or an address.
func (s *site) node(w http.ResponseWriter, r *http.Request, id string) {
	f, err := s.backend.Facts(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	g, err := s.backend.Graph(r.Context(), maxWindow)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	links, err := s.backend.Links(r.Context(), "")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ledger, err := s.backend.Plaintext(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	body := nodeBody{ID: id, Node: truth.GraphNode{ID: id, Name: id}}
	for _, n := range g.Nodes {
		if n.ID == id || slices.Contains(n.Workloads, id) {
			body.Node, body.Known = n, true
		}
	}
	for _, e := range g.Edges {
		if e.From == body.Node.ID || e.To == body.Node.ID {
			body.Edges = append(body.Edges, line{GraphEdge: e, Window: g.Window, Href: edgeHref(e.From, e.To, e.Port)})
		}
	}
	mine := func(node string) bool {
		return node == id || body.Node.ID == id && slices.Contains(body.Node.Workloads, node)
	}
	for _, p := range f.Proxies {
		if mine(p.Node) {
			body.Proxies = append(body.Proxies, p)
			body.Known = true
		}
	}
	body.Ledger = slices.DeleteFunc(slices.Clone(f.Edges), func(e mesh.Edge) bool { return !mine(e.Node) })
	body.Policy = policyOf(body.Ledger)
	slices.SortStableFunc(body.Ledger, func(a, b mesh.Edge) int { return b.Last.Compare(a.Last) })
	body.Ledger = body.Ledger[:min(len(body.Ledger), maxRows)]
	for _, p := range ledger.Lines {
		if belongs(p.Source, id) || belongs(p.Destination, id) {
			body.Plain = append(body.Plain, p)
		}
	}
	body.Links, body.More = first(slices.DeleteFunc(slices.Clone(links), func(l truth.Link) bool {
		return !belongs(l.Source, id) && !belongs(l.Destination, id)
	}))
	status := http.StatusOK
	if body.Known = body.Known || len(body.Links)+len(body.Ledger)+len(body.Plain) > 0; !body.Known {
		status = http.StatusNotFound
	}
	s.show(w, "node", status, s.frame(r.Context(), view{Title: id, Nav: "home", Live: true, Body: body}))
}

type nodeBody struct {
	ID      string
	Node    truth.GraphNode
	Known   bool
	Proxies []truth.Reporter
	Edges   []line
	Policy  []decision
	Ledger  []mesh.Edge
	Plain   []truth.Plain
	Links   []truth.Link
	More    int
}

// decision is what decided about connections of a workload, lately.
type decision struct {
	Direction  mesh.Direction
	Port       uint16
	Service    string
	Mode       string
	Rule       mesh.Origin
	Generation uint64
	Last       time.Time
}

// policyOf is the newest decision for each direction, service and port.
func policyOf(ledger []mesh.Edge) []decision {
	type key struct {
		direction mesh.Direction
		service   string
		port      uint16
	}
	newest := map[key]decision{}
	for _, e := range ledger {
		k := key{e.Direction, e.Service, e.Port}
		if d, ok := newest[k]; !ok || e.Last.After(d.Last) {
			newest[k] = decision{e.Direction, e.Port, e.Service, e.Mode, e.Rule, e.Generation, e.Last}
		}
	}
	var all []decision
	for _, d := range newest {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b decision) int {
		return cmp.Or(cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Port, b.Port))
	})
	return all
}

func (s *site) plaintext(w http.ResponseWriter, r *http.Request) {
	l, err := s.backend.Plaintext(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.show(w, "plaintext", http.StatusOK, s.frame(r.Context(), view{Title: "Plaintext", Nav: "plaintext", Live: true, Body: l}))
}

type whatIfBody struct {
	YAML   string
	Error  string
	Answer *truth.Answer
	// Picture of all that is remembered, with what the answer says of it.
	Picture picture
}

func (s *site) ask(w http.ResponseWriter, r *http.Request) {
	s.show(w, "whatif", http.StatusOK, s.frame(r.Context(), view{Title: "What if", Nav: "whatif", Body: whatIfBody{}}))
}

func (s *site) whatIf(w http.ResponseWriter, r *http.Request) {
	body := whatIfBody{}
	var err error
	if body.YAML, err = candidate(r); err == nil {
		var a truth.Answer
		if a, err = s.backend.WhatIf(r.Context(), []byte(body.YAML)); err == nil {
			body.Answer = &a
		}
	}
	if err == nil {
		var g truth.Graph
		if g, err = s.backend.Graph(r.Context(), maxWindow); err == nil {
			body.Picture = s.layouts.pictureOf(g, body.Answer.Effects)
		}
	}
	status := http.StatusOK
	if err != nil {
		body.Error, status = err.Error(), statusOf(err)
	}
	s.show(w, "whatif", status, s.frame(r.Context(), view{Title: "What if", Nav: "whatif", Body: body}))
}

// candidate is the YAML of the form. The form grows it when it encodes it, three
// times at most.
func candidate(r *http.Request) (string, error) {
	if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t != "application/x-www-form-urlencoded" {
		return "", &Invalid{"the manifests belong in the field yaml of a form"}
	}
	r.Body = http.MaxBytesReader(nil, r.Body, 3*maxCandidate+16)
	if err := r.ParseForm(); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return "", tooLong()
		}
		return "", &Invalid{"the form: " + err.Error()}
	}
	text := r.PostForm.Get("yaml")
	switch {
	case len(text) > maxCandidate:
		return "", tooLong()
	case strings.TrimSpace(text) == "":
		return "", &Invalid{"there is nothing to ask about: paste the YAML of a policy"}
	}
	return text, nil
}

func (s *site) timeline(w http.ResponseWriter, r *http.Request) {
	changes, err := s.backend.Timeline(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.show(w, "timeline", http.StatusOK, s.frame(r.Context(), view{Title: "Timeline", Nav: "timeline", Live: true, Body: changes}))
}

// findWhy sends the form's question on to its page.
func (s *site) findWhy(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, whyHref(strings.TrimSpace(r.FormValue("id"))), http.StatusSeeOther)
}

func (s *site) why(w http.ResponseWriter, r *http.Request) {
	p, err := s.backend.Why(r.Context(), r.PathValue("id"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.show(w, "why", http.StatusOK, s.frame(r.Context(), view{Title: "Why " + p.Trace, Live: true, Body: p}))
}

// statusBody has the fields of hasp status -o json that the page shows, on one
// machine or of a cluster's replicas.
type statusBody struct {
	App      bool    `json:"app"`
	Page     string  `json:"page"`
	Control  control `json:"control"`
	Replicas []struct {
		Pod       string  `json:"pod"`
		Leader    string  `json:"leader"`
		Authority string  `json:"authority"`
		Control   control `json:"control"`
	} `json:"replicas"`
	Silent []string `json:"silent"`
}

type control struct {
	TrustDomain string `json:"trustDomain"`
	Generation  uint64 `json:"generation"`
	Last        struct {
		Seen     time.Time `json:"seen"`
		Enforced time.Time `json:"enforced"`
	} `json:"last"`
	AutoMTLS  bool `json:"autoMtls"`
	Services  int  `json:"services"`
	Workloads int  `json:"workloads"`
	Proxies   []struct {
		Node            string `json:"node"`
		Identity        string `json:"identity"`
		Connected       bool   `json:"connected"`
		AckedGeneration uint64 `json:"ackedGeneration"`
		Nack            *struct {
			Generation uint64 `json:"generation"`
			Message    string `json:"message"`
		} `json:"nack"`
	} `json:"proxies"`
	Unmeshed []string  `json:"unmeshed"`
	Problems []string  `json:"problems"`
	CAExpiry time.Time `json:"caExpiry"`
}

// Took is how long the newest generation needed to be in force everywhere.
func (c control) Took() string {
	if c.Last.Enforced.IsZero() || c.Last.Seen.IsZero() {
		return ""
	}
	return took(c.Last.Enforced.Sub(c.Last.Seen))
}

func (s *site) status(w http.ResponseWriter, r *http.Request) {
	v, err := s.backend.Status(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var body statusBody
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &body)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.show(w, "status", http.StatusOK, s.frame(r.Context(), view{Title: "Status", Nav: "status", Live: true, Body: body}))
}
