package judge

import (
	"fmt"

	"hasp/mesh"
)

// Demand is a mode and who asks for it, in a sentence.
func Demand(mode string, o mesh.Origin) string {
	if o.Name == "" {
		return "mode " + mode
	}
	return fmt.Sprintf("%s of %s", mode, o)
}

// ClientMode is a word for what is spoken to a cluster.
func ClientMode(t mesh.ClientTLS) string {
	switch {
	case t.Mode != mesh.ClientUnset:
		return string(t.Mode)
	case t.Auto:
		return "AUTO"
	}
	return "UNSET" // plaintext, because nothing asks for more
}

func spoke(s mesh.Security) string {
	switch s {
	case mesh.Plaintext:
		return "plaintext"
	case mesh.PassedTLS:
		return "TLS of its own"
	case mesh.SimpleTLS:
		return "TLS without a client certificate"
	}
	return string(s)
}
