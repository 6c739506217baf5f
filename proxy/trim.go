package proxy

import (
	"strings"

	"hasp/mesh"
)

// What a report carries of strings that others chose.
const (
	maxWord     = 256
	maxSentence = 512
	maxOffered  = 16
)

// word is a string that others chose, cut short.
func word(s string) string { return cutTo(s, maxWord) }

func cutTo(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

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
