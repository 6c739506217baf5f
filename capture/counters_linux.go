package capture

import (
	"fmt"
	"reflect"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Counters are the rules that a network namespace (-1: the caller's own) has in
// force, with the connections that each has decided about since Apply. Rules
// that are not the Spec's are an error: somebody has changed the capture.
func Counters(ns int, s Spec) ([]Counted, error) {
	c, err := connect(ns)
	if err != nil {
		return nil, err
	}
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: Table}
	inForce := map[Chain][]*nftables.Rule{}
	for _, chain := range []Chain{Output, Prerouting} {
		if inForce[chain], err = c.GetRules(t, &nftables.Chain{Name: string(chain), Table: t}); err != nil {
			return nil, fmt.Errorf("capture: list the rules of %s: %w", chain, err)
		}
	}
	var out []Counted
	at := map[Chain]int{}
	for _, want := range s.Rules() {
		i := at[want.Chain]
		at[want.Chain]++
		if i >= len(inForce[want.Chain]) {
			return nil, fmt.Errorf("capture: the rule %q is not in force", want)
		}
		n, same := counted(inForce[want.Chain][i].Exprs, want.exprs())
		if !same {
			return nil, fmt.Errorf("capture: rule %d of %s in force is not %q", i+1, want.Chain, want)
		}
		out = append(out, Counted{want, n})
	}
	for chain, rules := range inForce {
		if n := len(rules) - at[chain]; n > 0 {
			return nil, fmt.Errorf("capture: %s has %d rules in force that are not ours", chain, n)
		}
	}
	return out, nil
}

// counted is what a rule in force has counted, and whether it is the wanted one.
func counted(got, want []expr.Any) (connections uint64, same bool) {
	if len(got) != len(want) {
		return 0, false
	}
	for i := range got {
		if n, ok := got[i].(*expr.Counter); ok {
			if _, ok := want[i].(*expr.Counter); !ok {
				return 0, false
			}
			connections = n.Packets // of each connection a nat chain sees the first
			continue
		}
		if !alike(got[i], want[i]) {
			return 0, false
		}
	}
	return connections, true
}

// alike passes over what the kernel adds to a redirect.
func alike(got, want expr.Any) bool {
	if w, ok := want.(*expr.Redir); ok {
		g, ok := got.(*expr.Redir)
		return ok && g.RegisterProtoMin == w.RegisterProtoMin
	}
	return reflect.DeepEqual(got, want)
}
