package api

import (
	"fmt"
)

// Error is one thing wrong with a manifest: where, in what, and the way out.
type Error struct {
	File   string
	Line   int    // from 1
	Object string // "Policy microservices-demo/default"; empty before that is known
	Field  string // "spec.peers[0].mtls.mode"; empty for the object as a whole
	Detail string
}

// Error is FILE:LINE: OBJECT: FIELD: DETAIL, without the parts not known.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s:%d: ", e.File, e.Line)
	if e.Object != "" {
		s += e.Object + ": "
	}
	if e.Field != "" {
		s += e.Field + ": "
	}
	return s + e.Detail
}
