package capture

import (
	"fmt"
	"net/netip"
	"strings"
)

// Chain is one of the two places in the kernel where connections are caught.
type Chain string

const (
	Output     Chain = "output"     // connections that the workload makes
	Prerouting Chain = "prerouting" // connections made to the workload
)

// Field is what a Match looks at.
type Field int

const (
	SocketUID       Field = iota // Number: user that owns the sending socket
	Mark                         // Number: mark of the packet
	OutInterface                 // Name
	InInterface                  // Name
	DestinationNet               // Net
	DestinationPort              // Number: a TCP port
	TCP                          // any TCP packet
)

// Match is one condition; Field says which of the values it uses.
type Match struct {
	Field  Field
	Number uint32
	Name   string
	Net    netip.Prefix
}

// String is the condition as nft writes it.
func (m Match) String() string {
	switch m.Field {
	case SocketUID:
		return fmt.Sprintf("meta skuid %d", m.Number)
	case Mark:
		return fmt.Sprintf("meta mark 0x%08x", m.Number)
	case OutInterface:
		return fmt.Sprintf("oifname %q", m.Name)
	case InInterface:
		return fmt.Sprintf("iifname %q", m.Name)
	case DestinationNet:
		family := "ip6"
		if m.Net.Addr().Is4() {
			family = "ip"
		}
		if m.Net.IsSingleIP() {
			return family + " daddr " + m.Net.Addr().String()
		}
		return family + " daddr " + m.Net.String()
	case DestinationPort:
		return fmt.Sprintf("tcp dport %d", m.Number)
	case TCP:
		return "meta l4proto tcp"
	}
	return fmt.Sprintf("unknown field %d", m.Field)
}

// Verdict is what happens to a connection that matched.
type Verdict struct {
	// RedirectTo is the local port it goes to; 0 leaves it alone.
	RedirectTo uint16
}

// Return leaves a connection alone.
func Return() Verdict { return Verdict{} }

// Redirect sends a connection to a port of this namespace.
func Redirect(port uint16) Verdict { return Verdict{RedirectTo: port} }

// String is the verdict as nft writes it.
func (v Verdict) String() string {
	if v.RedirectTo == 0 {
		return "return"
	}
	return fmt.Sprintf("redirect to :%d", v.RedirectTo)
}

// Rule is one line of a ruleset: all of Match, then Do. Every rule counts.
type Rule struct {
	Chain Chain
	Match []Match
	Do    Verdict
}

// String is the rule as nft writes it, with the counter it carries.
func (r Rule) String() string {
	var b strings.Builder
	for _, m := range r.Match {
		b.WriteString(m.String() + " ")
	}
	return b.String() + "counter " + r.Do.String()
}

// Rules is a ruleset in the order in which the kernel asks it.
type Rules []Rule

// String is the whole table as "nft -s list table inet hasp" prints it and
// "nft -f" reads it.
func (rs Rules) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", Table)
	// nft has a name for priority -100 in one of the two hooks only.
	priority := map[Chain]string{Output: "-100", Prerouting: "dstnat"}
	for i, c := range []Chain{Output, Prerouting} {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype nat hook %s priority %s; policy accept;\n", c, c, priority[c])
		for _, r := range rs {
			if r.Chain == c {
				fmt.Fprintf(&b, "\t\t%s\n", r)
			}
		}
		b.WriteString("\t}\n")
	}
	return b.String() + "}\n"
}

// Counted is a rule in force and how many connections it has decided about.
type Counted struct {
	Rule        Rule
	Connections uint64
}
