package cli

import (
	"context"
	"fmt"
	"slices"

	"hasp/mesh"
	"hasp/truth"
)

// pair is a pod that talks to a Deployment in plaintext now, by one port, and is
// to speak mutual TLS.
type pair struct {
	client string // NAMESPACE/NAME
	server string // ID of the party
	port   uint16 // of the server's workload
	name   string // for a person
}

// pairs that live and that a candidate upgrades.
func (a *applying) pairs(ctx context.Context, answer *truth.Answer) ([]pair, error) {
	f, err := a.ask.Facts(ctx)
	if err != nil {
		return nil, err
	}
	a.since = f.At
	links, err := a.ask.Links(ctx, "")
	if err != nil {
		return nil, err
	}
	var out []pair
	for _, l := range links {
		if !l.End.IsZero() || !l.Allowed || l.Security == mesh.MutualTLS || l.Source.Workload == "" {
			continue
		}
		p := pairOf(&l)
		upgraded := slices.ContainsFunc(answer.Effects, func(x truth.Effect) bool {
			return x.What == truth.Upgraded && slices.Contains(x.Pods, p.client) && x.Destination.ID() == p.server && x.Port == p.port
		})
		if upgraded && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out, nil
}

func pairOf(l *truth.Link) pair {
	p := pair{client: l.Source.Workload, server: l.Destination.ID(), port: l.Port}
	switch {
	case l.AtDestination != nil:
		p.port = l.AtDestination.Destination.Port()
	case l.AtSource != nil && l.AtSource.Upstream.IsValid():
		p.port = l.AtSource.Upstream.Port()
	}
	p.name = fmt.Sprintf("%s to %s", p.client, withPort(partyName(l.Destination), p.port))
	return p
}

// proven waits until the proxies of both ends have seen every pair speak mutual
// TLS. A pod that is no more, or whose proxy is not connected any more, has
// nothing to prove.
func (a *applying) proven(ctx context.Context, pairs []pair) error {
	if len(pairs) == 0 {
		return nil
	}
	return until(ctx, func() (bool, error) {
		f, err := a.ask.Facts(ctx)
		if err != nil {
			return false, err
		}
		links, err := a.ask.Links(ctx, "")
		if err != nil {
			return false, err
		}
		there := map[string]bool{}
		for _, p := range f.Proxies {
			there[p.Node] = p.Connected
		}
		var missing []string
		for _, p := range pairs {
			if there[p.client] && !slices.ContainsFunc(links, func(l truth.Link) bool { return a.speaksMutual(&l) && pairOf(&l) == p }) {
				missing = append(missing, p.name)
			}
		}
		if len(missing) == 0 {
			return true, nil
		}
		a.say("waiting for mutual TLS between %d of %d pairs that talk: %s", len(missing), len(pairs), listed(missing))
		return false, nil
	})
}

// speaksMutual: the proof is a connection that lives, or was seen since apply
// began, as both of its ends have it.
func (a *applying) speaksMutual(l *truth.Link) bool {
	return l.Seen == "both" && l.Security == mesh.MutualTLS && l.Allowed && l.Disagreement == "" && (l.End.IsZero() || l.LastSeen.After(a.since))
}
