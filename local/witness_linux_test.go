package local

import (
	"errors"
	"net/netip"
	"testing"

	"hasp/proof"
	"hasp/sandbox"
)

func TestCapturedProves(t *testing.T) {
	out := netip.MustParseAddrPort("192.0.2.1:9")
	for _, c := range []struct {
		name              string
		capture           sandbox.Capture
		self, past        proof.Verdict
		selfSays, pastSay string
	}{
		{"all of it", sandbox.Capture{Rules: 7, Out: 3, In: 10, Tried: []sandbox.Tried{{Address: out}}}, proof.Proven, proof.Proven,
			"what it dials comes out at its sidecar", "nothing went past its sidecar: 3 connections out and 10 in went through it since it started"},
		{"not what it dials", sandbox.Capture{Tried: []sandbox.Tried{{Address: out, Err: errors.New("no route")}}}, proof.Failed, proof.Proven,
			"what it dials does not come out at its sidecar", "nothing went past its sidecar: 0 connections out and 0 in went through it since it started"},
		{"but for a port", sandbox.Capture{Past: []sandbox.Passed{{Rule: "tcp dport 81 counter return", Connections: 4}}}, proof.Open, proof.Open,
			"what it dials goes past the sidecar where its annotations say so", "connections went past its sidecar, as its annotations say"},
	} {
		checks := captured(&c.capture)
		if len(checks) != 3 || checks[0].Verdict != proof.Proven {
			t.Fatalf("%s: %+v", c.name, checks)
		}
		if checks[1].Verdict != c.self || checks[1].Says != c.selfSays {
			t.Errorf("%s: %s, %q", c.name, checks[1].Verdict, checks[1].Says)
		}
		if checks[2].Verdict != c.past || checks[2].Says != c.pastSay {
			t.Errorf("%s: %s, %q", c.name, checks[2].Verdict, checks[2].Says)
		}
	}
}
