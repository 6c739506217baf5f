package proxy

import (
	"hasp/mesh"
	"hasp/policy/judge"
)

// decide whether a connection may live: package judge does, so that others can
// ask the same about a configuration that is not in force.
func decide(s *settings, f *mesh.Connection) judge.Verdict {
	if s.undecided(f) {
		return judge.Verdict{Allow: true, Mode: f.Mode, Rule: f.Rule} // as it was decided
	}
	return s.index.Judge(f)
}
