package proxy

import (
	"math/rand/v2"

	"hasp/mesh"
)

// sample is at most maxTold connections out of any number, each with the same
// chance: whoever is quick does not crowd out the others.
type sample struct {
	facts []mesh.Connection
	seen  int
	told  bool // some of them were told of when they lived
}

// add reports whether a connection, this one or another, was left out for it.
func (s *sample) add(f *mesh.Connection) (lost bool) {
	s.seen++
	if len(s.facts) < maxTold {
		s.facts = append(s.facts, *f)
		return false
	}
	if i := rand.IntN(s.seen); i < len(s.facts) {
		s.facts[i] = *f
	}
	return true
}

// take removes the first n.
func (s *sample) take(n int) []mesh.Connection {
	out := s.facts[:n:n]
	s.facts = append([]mesh.Connection(nil), s.facts[n:]...)
	s.seen, s.told = len(s.facts), s.told && len(s.facts) > 0
	return out
}
