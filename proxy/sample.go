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

// What a report carries of strings that others chose.
const (
	maxSentence = 512
	maxOffered  = 16
)

// trim cuts short what others chose.
func trim(f *mesh.Connection) {
	f.Why = cutTo(f.Why, maxSentence)
	for _, s := range []*string{&f.PeerIdentity, &f.PeerWorkload, &f.Service, &f.ALPN} {
		*s = word(*s)
	}
	if f.Failure == nil {
		return
	}
	x := *f.Failure // it is shared with the table
	x.Error, x.SNI = cutTo(x.Error, maxSentence), word(x.SNI)
	x.Expected, x.Offered = words(x.Expected), words(x.Offered)
	x.Presented, x.Own = trimCertificate(x.Presented), trimCertificate(x.Own)
	f.Failure = &x
}

func words(list []string) []string {
	var out []string
	for _, s := range list[:min(len(list), maxOffered)] {
		out = append(out, word(s))
	}
	return out
}

func trimCertificate(c *mesh.Certificate) *mesh.Certificate {
	if c == nil {
		return nil
	}
	x := *c
	x.Identity, x.Issuer, x.Serial = word(x.Identity), word(x.Issuer), word(x.Serial)
	return &x
}
