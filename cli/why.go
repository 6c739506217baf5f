package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"hasp/dashboard"
	"hasp/mesh"
	"hasp/truth"
)

func newWhy(e *env) *cobra.Command {
	var target clusterFlags
	var output string
	cmd := &cobra.Command{
		Use:   "why ID",
		Short: "Show what became of one connection, and why",
		Long: `Show all that both ends of one connection know of it, mostly of one that failed:
what each end expected and what it was shown, both certificates and both clocks,
the object that decided, and what to do.

The ID is in the header x-hasp-trace and the text of a 503, in the access log, in
hasp connections -o wide, and in the dashboard. It is the same at both ends.`,
		Example: `  hasp why 9f86d081884c7d65
  hasp why 9f86d081884c7d65 -o json`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return e.completeFrom(cmd, &target, func(l truth.Link) []string {
				if l.Trace == "" || l.Allowed && failureOf(l) == nil {
					return nil
				}
				return []string{l.Trace + "\t" + partyName(l.Source) + " to " + destinationName(l)}
			})
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "" && output != "json" {
				return usageError{fmt.Errorf("-o %s: only json is known", output)}
			}
			v, err := views(cmd.Context(), e, &target)
			if err != nil {
				return err
			}
			defer v.Close()
			p, err := askWhy(cmd.Context(), v, args[0], func() {
				if e.Terminal {
					fmt.Fprintf(e.Err, "No proxy has told of %s yet; waiting %s.\n", printable(args[0]), spelled(whyPatience))
				}
			})
			if err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(e.Out, p, "null")
			}
			return writePostmortem(e.Out, &p, time.Now())
		},
	}
	target.register(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "", "json for the same as JSON")
	offer(cmd, "output", "json")
	return cmd
}

// whyPatience is how long what is unknown is waited for: a proxy reports about
// once a second, and whoever has just seen a 503 asks before it did.
const whyPatience = 3 * time.Second

// askWhy calls waiting when it has to wait.
func askWhy(ctx context.Context, v *viewClient, id string, waiting func()) (truth.Postmortem, error) {
	id = strings.ToLower(strings.TrimSpace(id))
	p, unknown := v.Why(ctx, id)
	if !errors.Is(unknown, dashboard.ErrUnknown) {
		return p, unknown
	}
	waiting()
	wait, stop := context.WithTimeout(ctx, whyPatience)
	defer stop()
	events, err := v.Events(wait)
	if err != nil {
		return p, unknown
	}
	for range events { // the first comes at once
		if p, err := v.Why(ctx, id); !errors.Is(err, dashboard.ErrUnknown) {
			return p, err
		}
	}
	return p, unknown
}

// writePostmortem for a person.
func writePostmortem(out io.Writer, p *truth.Postmortem, now time.Time) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s to %s, %s, %s\n", p.Trace, printable(partyName(p.Source)), printable(destinationName(p.Link)), securityWord(p.Security), state(p.Link, now))
	for _, s := range []string{p.Sentence, p.Fix, p.Disagreement} {
		if s != "" {
			fmt.Fprintf(&b, "\n%s\n", printable(s))
		}
	}
	fmt.Fprintln(&b)
	t := tabwriter.NewWriter(&b, 0, 8, 3, ' ', 0)
	source, destination := atEnd(p.AtSource, p.Source, p.SourceSkew), atEnd(p.AtDestination, p.Destination, p.DestinationSkew)
	fmt.Fprintln(t, "\tAT THE SOURCE\tAT THE DESTINATION")
	for i, row := range source {
		writeBoth(t, row.label, row.values, destination[i].values)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	// tabwriter pads the last column of nothing.
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// writeBoth writes a row of several lines, if either end has something to say.
func writeBoth(t io.Writer, label string, source, destination []string) {
	for i := range max(len(source), len(destination)) {
		at := func(values []string) string {
			switch {
			case i < len(values):
				return printable(values[i])
			case i == 0:
				return "-"
			}
			return ""
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", label, at(source), at(destination))
		label = ""
	}
}

type labelled struct {
	label  string
	values []string
}

// atEnd is what one end has to say, always by the same labels.
func atEnd(c *truth.Connection, p truth.Party, skew time.Duration) []labelled {
	reporter := "nobody"
	switch {
	case p.Meshed:
		reporter = "nobody: its proxy did not tell"
	case p.Workload != "":
		reporter = "nobody: " + partyName(p) + " has no proxy"
	}
	if c == nil {
		c = &truth.Connection{}
	} else {
		reporter = c.Node
	}
	f := cmp.Or(c.Failure, &mesh.Failure{})
	gaveUp := f.Stage
	if f.Stage != "" && f.ByPeer {
		gaveUp += " (the other end gave up)"
	}
	clock := ""
	switch {
	case skew >= time.Second:
		clock = howLong(skew) + " ahead of the control plane's"
	case skew <= -time.Second:
		clock = howLong(-skew) + " behind the control plane's"
	}
	tls := c.TLS
	for _, more := range []string{c.Group, c.Cipher} {
		if more != "" {
			tls += " " + more
		}
	}
	if c.Resumed {
		tls += ", resumed"
	}
	if c.Reused > 0 {
		tls += fmt.Sprintf(", on a connection that had carried %d before", c.Reused)
	}
	decided := ""
	if c.Node != "" {
		decided = c.Rule.String()
		if c.Mode != "" {
			decided = c.Mode + " by " + decided
		}
		decided = fmt.Sprintf("%s @%d", decided, c.Generation)
	}
	at := ""
	if !f.At.IsZero() {
		at = f.At.Local().Format(time.DateTime + ".000")
	}
	spoken := ""
	if c.Security != "" {
		spoken = securityWord(c.Security)
	}
	return []labelled{
		{"told by", []string{reporter}},
		{"addresses", some(fromTo(c.Source, c.Destination), fromTo(c.Local, c.Upstream))},
		{"spoken", some(spoken)},
		{"decided by", some(decided)},
		{"said", some(c.Why)},
		{"failed at", some(gaveUp)},
		{"reason", some(f.Reason)},
		{"error", some(f.Error)},
		{"by its clock", some(at, clock)},
		{"trust domain", some(f.TrustDomain)},
		{"expected", f.Expected},
		{"was shown", certificate(f.Presented)},
		{"showed", certificate(f.Own)},
		{"TLS", some(tls)},
		{"ALPN", some(cmp.Or(c.ALPN, strings.Join(f.Offered, ", ")))},
		{"SNI", some(f.SNI)},
		{"identity", some(c.LocalIdentity)},
		{"of the peer", some(c.PeerIdentity)},
	}
}

// fromTo of what is known: a gateway's client names no destination.
func fromTo(from, to netip.AddrPort) string {
	switch {
	case !from.IsValid():
		return ""
	case !to.IsValid():
		return "from " + from.String()
	}
	return from.String() + " > " + to.String()
}

func some(values ...string) []string {
	return slices.DeleteFunc(values, func(s string) bool { return s == "" })
}

func certificate(c *mesh.Certificate) []string {
	if c == nil {
		return nil
	}
	return some(c.Identity, "issued by "+orDash(c.Issuer), "serial "+orDash(c.Serial),
		"from "+moment(c.NotBefore)+" until "+moment(c.NotAfter))
}
