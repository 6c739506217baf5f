package control

import (
	"fmt"
	"slices"

	"hasp/mesh"
	"hasp/proof"
	"hasp/truth"
)

// judge what the attempts at a port saw.
func (t *attempts) judge(identity string, records map[string]*truth.Connection) []proof.Check {
	if t.port.Mode == mesh.ModeDisable {
		return []proof.Check{t.check(string(proof.Plain), proof.Open, "plaintext is let in, and the mesh's TLS is not spoken")}
	}
	if t.failed != nil {
		return []proof.Check{t.check("ports", proof.Unknown, "it was not tried: "+t.failed.Error())}
	}
	out := []proof.Check{t.plaintext(records)}
	for _, c := range []struct {
		who  proof.Stranger
		what string
	}{
		{proof.Bare, "TLS without a certificate"},
		{proof.OtherCA, "a certificate of another authority"},
		{proof.OtherDomain, "a certificate of another trust domain"},
	} {
		out = append(out, t.refused(c.who, c.what, records))
	}
	return append(out, t.member(identity, records))
}

func (t *attempts) check(name string, v proof.Verdict, says string) proof.Check {
	return proof.Check{Name: name, Port: t.port.Port, Verdict: v, Says: says, Rule: t.port.Origin, Mode: t.port.Mode}
}

func (t *attempts) plaintext(records map[string]*truth.Connection) proof.Check {
	if t.port.Mode != mesh.ModeStrict {
		return t.check(string(proof.Plain), proof.Open, "plaintext is let in")
	}
	return t.refused(proof.Plain, "plaintext", records)
}

// refused wants a stranger sent away at every address. That counts only where
// the port is alive: where a member gets through his handshake.
func (t *attempts) refused(who proof.Stranger, what string, records map[string]*truth.Connection) proof.Check {
	sights := t.sights[who]
	c := t.check(string(who), proof.Proven, what+" is refused")
	c.Evidence = evidence(sights, records)
	if len(sights) == 0 {
		c.Verdict, c.Says = proof.Unknown, what+" was not tried"
		return c
	}
	for _, s := range sights {
		record := records[s.Trace]
		switch {
		case s.Accepted && who == proof.OtherDomain && t.port.Mode != mesh.ModeStrict:
			// It is more than the mode asks for, and no authorization goes by it.
			c.Verdict, c.Says = proof.Open, what+" is let in, as plaintext is"
		case s.Accepted:
			c.Verdict, c.Says = proof.Failed, what+" is let in"
			return c
		case c.Verdict == proof.Open:
		case record != nil && record.Allowed && record.Security != mesh.Unknown:
			c.Verdict, c.Says = proof.Failed, what+" is let in, as the proxy says itself"
			return c
		case !s.Reached || !t.alive(s.Address):
			c.Verdict, c.Says = proof.Unknown, "no telling whether "+what+" is refused: the port does not answer a member either"
		}
	}
	return c
}

// alive reports whether a member got through his handshake at the address.
func (t *attempts) alive(address string) bool {
	return slices.ContainsFunc(t.sights[proof.Member], func(s proof.Sight) bool { return s.Address == address && s.Shaken })
}

func (t *attempts) member(identity string, records map[string]*truth.Connection) proof.Check {
	sights := t.sights[proof.Member]
	c := t.check(string(proof.Member), proof.Proven, "a member of the mesh is let in, and the server proves who it is")
	c.Evidence = evidence(sights, records)
	if len(sights) == 0 {
		c.Verdict, c.Says = proof.Unknown, "it has no address"
	}
	for _, s := range sights {
		record := records[s.Trace]
		switch {
		case !s.Reached:
			c.Verdict, c.Says = proof.Unknown, "the port is not reached"
		case s.Shaken && s.Identity != identity:
			c.Verdict, c.Says = proof.Failed, fmt.Sprintf("the server proves to be %s", s.Identity)
			return c
		case s.Accepted:
		case s.Shaken && record != nil && record.Security == mesh.MutualTLS && record.Rule.Kind == "AuthorizationPolicy":
			c.Says = fmt.Sprintf("a member's certificate is accepted; %s then refuses the verifier", record.Rule)
		case record != nil && record.Failure == nil && !s.Shaken:
			c.Verdict, c.Says = proof.Unknown, "nobody can be let in: "+record.Why
		default:
			c.Verdict, c.Says = proof.Failed, "a member of the mesh is not let in"
			return c
		}
	}
	return c
}

func evidence(sights []proof.Sight, records map[string]*truth.Connection) []proof.Evidence {
	var out []proof.Evidence
	for _, s := range sights {
		e := s.Evidence
		if r := records[s.Trace]; r != nil {
			e.Proxy = said(r)
		}
		out = append(out, e)
	}
	return out
}

// wire says what went to and from the port while it was tried: our attempts, and
// whoever else connected.
func (t *attempts) wire(flows []proof.Flow, unseen error) proof.Check {
	c := t.check("wire", proof.Unknown, "what went over the wire was not looked at")
	if unseen != nil {
		c.Says += ": " + unseen.Error()
		return c
	}
	own := map[string]bool{}
	for _, sights := range t.sights {
		for _, s := range sights {
			own[s.From] = true
		}
	}
	tls, others, refused, records := 0, 0, 0, uint64(0)
	for _, f := range flows {
		switch {
		case f.Server.Port() != t.port.Port || f.Sent+f.Received == 0:
			continue
		case f.Lost:
			c.Evidence = append(c.Evidence, proof.Evidence{Address: f.Client.String(), Saw: "some of its packets were missed"})
			continue
		case f.Plain && f.Received > 0, !f.Plain && f.Version == "1.2":
			what := fmt.Sprintf("%d bytes to and %d from the server that are not all TLS", f.Sent, f.Received)
			if !f.Plain {
				what = "TLS 1.2"
			}
			c.Evidence = append(c.Evidence, proof.Evidence{Address: f.Client.String(), Saw: what})
			if t.port.Mode == mesh.ModeStrict && f.Plain {
				c.Verdict = proof.Failed
			} else if c.Verdict != proof.Failed {
				c.Verdict = proof.Open
			}
		case f.Plain:
			refused++
		case f.Version == "1.3":
			tls, records = tls+1, records+f.Records
			if !own[f.Client.String()] {
				others++
			}
		}
	}
	switch {
	case c.Verdict == proof.Failed:
		c.Says = "on the wire there was plaintext that the server answered"
	case c.Verdict == proof.Open:
		c.Says = "on the wire not all was TLS 1.3"
	case tls == 0:
		c.Says = "on the wire there was no connection of TLS"
	case len(c.Evidence) > 0:
		c.Says = "on the wire not everything could be followed"
	default:
		c.Verdict = proof.Proven
		c.Says = fmt.Sprintf("on the wire there was nothing but TLS 1.3: %d connections, %d of them of others than the verifier, %d records; %d that spoke plaintext had no answer", tls, others, records, refused)
	}
	return c
}
