// Package proof knocks at a workload's port as strangers would, and says what
// became of it: whoever speaks plaintext, shows no certificate, one of another
// authority or one of another trust domain must be sent away, and a member of
// the mesh must be let in. What came of it is a [Report], signed by the control
// plane, that can be checked later and elsewhere ([Signed.Check]).
//
// [Knock] is one attempt. No attempt sends the application a byte, as long as
// the proxy does what it is there for: the member's connection ends after its
// handshake, and the one line that the plaintext attempt sends is only for
// servers that are said to refuse it.
package proof

import (
	"time"

	"hasp/mesh"
)

// Verdict of a check.
type Verdict string

const (
	Proven  Verdict = "proven"  // tried, and as it should be
	Failed  Verdict = "failed"  // tried, and not as it should be
	Open    Verdict = "open"    // let in, as the configuration says
	Unknown Verdict = "unknown" // not tried, or no telling
)

// Report is what was tried on some workloads and what came of it.
type Report struct {
	Version     int       `json:"version"`
	TrustDomain string    `json:"trustDomain"`
	By          string    `json:"by"` // identity of the control plane that tried
	At          time.Time `json:"at"`
	Generation  uint64    `json:"generation"` // of the mesh's configuration
	// Identity that the good certificate had.
	Identity  string     `json:"identity,omitempty"`
	Workloads []Workload `json:"workloads"`
}

// Workload is one that was tried.
type Workload struct {
	Workload string  `json:"workload"` // NAMESPACE/NAME
	Owner    string  `json:"owner,omitempty"`
	Identity string  `json:"identity,omitempty"`
	Checks   []Check `json:"checks"`
}

// Check is one thing that was tried, at all addresses of a workload.
type Check struct {
	Name    string  `json:"name"` // "plaintext", "no-certificate", ...
	Port    uint16  `json:"port,omitempty"`
	Verdict Verdict `json:"verdict"`
	// Says what was found, in a clause.
	Says string `json:"says"`
	// Rule is the object that decided, Mode what it decided.
	Rule     mesh.Origin `json:"rule,omitzero"`
	Mode     mesh.Mode   `json:"mode,omitempty"`
	Evidence []Evidence  `json:"evidence,omitempty"`
}

// Evidence is what one attempt saw, and what the workload's proxy says of it.
type Evidence struct {
	Address  string        `json:"address,omitempty"`
	From     string        `json:"from,omitempty"`
	Saw      string        `json:"saw"`
	Took     time.Duration `json:"took,omitempty"`
	Trace    string        `json:"trace,omitempty"` // hasp why TRACE
	TLS      string        `json:"tls,omitempty"`
	Group    string        `json:"group,omitempty"`
	Identity string        `json:"identity,omitempty"` // that the server proved
	// Proxy is the record of the workload's own proxy, empty when it sent none.
	Proxy string `json:"proxy,omitempty"`
}

// Tally counts the checks of a report by verdict.
func (r *Report) Tally() map[Verdict]int {
	n := map[Verdict]int{}
	for _, w := range r.Workloads {
		for _, c := range w.Checks {
			n[c.Verdict]++
		}
	}
	return n
}
