package proxy

import (
	"hasp/mesh"
	"hasp/policy/judge"
)

// decide whether a connection may live: package judge does, so that others can
// ask the same about a configuration that is not in force.
func decide(s *settings, f *mesh.Connection) judge.Verdict { return s.index.Judge(f) }
