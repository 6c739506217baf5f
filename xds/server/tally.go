package server

// tally counts the proxies of a registry, since of a thousand somebody wants to know
// whether all are well whenever one of them has said something.
type tally struct {
	having   map[uint64]int // connected ones, by the generation that they acknowledged
	troubled int            // connected ones that refused something or cannot be told
	gone     int            // not connected
}

// count an entry in, or out before it changes. One that is not its node's any more
// does not count. The caller holds mu.
func (r *registry) count(e *entry, n int) {
	if r.nodes[e.status.Node] != e {
		return
	}
	if !e.status.Connected {
		r.gone += n
		return
	}
	g := e.status.AckedGeneration
	if r.having[g] += n; r.having[g] == 0 {
		delete(r.having, g)
	}
	if e.status.Nack != nil || e.status.Error != "" {
		r.troubled += n
	}
}

// Late is how many connected proxies have not acknowledged a generation, and whether
// any of the connected refused something or cannot be told.
func (s *Server) Late(generation uint64) (late int, troubled bool) {
	r := s.proxies
	r.mu.Lock()
	defer r.mu.Unlock()
	for g, n := range r.having {
		if g < generation {
			late += n
		}
	}
	return late, r.troubled > 0
}

// Gone are the nodes whose proxies are not connected any more, in no order.
func (s *Server) Gone() []string {
	r := s.proxies
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone == 0 {
		return nil
	}
	out := make([]string, 0, r.gone)
	for node, e := range r.nodes {
		if !e.status.Connected {
			out = append(out, node)
		}
	}
	return out
}
