package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hasp/mesh"
	"hasp/truth"
)

// connections is hasp connections.
type connections struct {
	e         *env
	target    clusterFlags
	workload  string
	namespace string
	output    string
	watch     bool
	live      bool
}

func newConnections(e *env) *cobra.Command {
	c := &connections{e: e}
	cmd := &cobra.Command{
		Use:   "connections [WORKLOAD[.NAMESPACE]]",
		Short: "Show who talks to whom, and what is really spoken",
		Long: `Show the live and recent connections of the mesh, of one workload or of all, as
the proxies at their ends report them. A row is one connection, joined from both:

  SOURCE, DESTINATION  the workloads, or a process or an address that is none's
  SECURITY             mTLS, plaintext, TLS (the server's certificate alone), its
                       own TLS (the application's, passed through) or probe
  TLS                  version and key exchange of the handshake
  RULE                 the object that decided at the server, @ the generation of
                       the configuration; "-" when no object did
  BYTES                both ways
  STATE                open, closed, refused (by policy), cut (by a later policy)
                       or failed, and for how long
  WHY                  why it is not mutual TLS, why it was refused, and what the
                       two ends report differently

Plaintext that was let in stands out on a terminal. -o wide adds identities,
addresses, cipher, ALPN, requests, who reported the row and its ID, which hasp why
takes, and whether the session was resumed or the TLS connection had carried others
before. Facts are about a second old.

With -w a terminal is redrawn; elsewhere each row that is new or whose state
changed is written once more.

WORKLOAD is a pod, a Deployment or an address. --live leaves out what has ended.`,
		Example: `  hasp connections
  hasp connections boards -w
  hasp connections boards.shop --live -o wide
  hasp connections -o json | jq '.[] | select(.security == "none" and .allowed)'`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.output != "" && c.output != "json" && c.output != "wide" {
				return usageError{fmt.Errorf("-o %s: json and wide are known", c.output)}
			}
			if len(args) > 0 {
				c.workload = args[0]
			}
			v, err := views(cmd.Context(), e, &c.target)
			if err != nil {
				return err
			}
			defer v.Close()
			if c.watch {
				return c.follow(cmd.Context(), v)
			}
			return c.show(cmd.Context(), v)
		},
	}
	c.target.register(cmd)
	fs := cmd.Flags()
	fs.StringVarP(&c.namespace, "namespace", "n", "", "only connections with an end in this namespace")
	fs.StringVarP(&c.output, "output", "o", "", "wide for more columns, json for all as JSON (with -w one object a line)")
	offer(cmd, "output", "json", "wide")
	offerFound(cmd, "namespace", e.completeNamespace(&c.target))
	fs.BoolVarP(&c.watch, "watch", "w", false, "go on, and show what changes")
	fs.BoolVar(&c.live, "live", false, "only connections that live")
	return cmd
}

// links that are asked for.
func (c *connections) links(ctx context.Context, v *viewClient) ([]truth.Link, error) {
	all, err := v.Links(ctx, "")
	if err != nil {
		return nil, err
	}
	is := func(truth.Party) bool { return true }
	switch {
	case c.workload != "":
		if is, err = whoIs(all, c.workload, c.namespace); err != nil {
			if c.watch {
				return nil, nil // it may come yet
			}
			return nil, err
		}
	case c.namespace != "":
		is = func(p truth.Party) bool { return p.Namespace == c.namespace }
	}
	return slices.DeleteFunc(all, func(l truth.Link) bool {
		return c.live && !l.End.IsZero() || !is(l.Source) && !is(l.Destination)
	}), nil
}

// whoIs finds whom a person means by a pod, a Deployment, NAME.NAMESPACE,
// NAMESPACE/NAME or an address, among the ends of connections.
func whoIs(all []truth.Link, arg, namespace string) (func(truth.Party) bool, error) {
	var names []string
	for _, is := range []func(truth.Party) bool{
		func(p truth.Party) bool { return inNamespace(p, namespace) && isNamed(p, arg) },
		func(p truth.Party) bool {
			i := strings.LastIndexByte(arg, '.')
			return i > 0 && p.Namespace == arg[i+1:] && isNamed(p, arg[:i])
		},
		func(p truth.Party) bool { return p.Workload == arg || p.Namespace+"/"+p.Owner == arg },
		func(p truth.Party) bool { return p.Address != "" && host(p.Address) == arg },
	} {
		for _, l := range all {
			if is(l.Source) || is(l.Destination) {
				return is, nil
			}
		}
	}
	for _, l := range all {
		names = append(names, partyName(l.Source), partyName(l.Destination))
	}
	return nil, fmt.Errorf("no connection of %q is known; there are those of %s", arg, listed(names))
}

func inNamespace(p truth.Party, namespace string) bool {
	return namespace == "" || p.Namespace == namespace
}

func isNamed(p truth.Party, name string) bool {
	return name != "" && (p.Owner == name || p.Workload == p.Namespace+"/"+name)
}

func (c *connections) show(ctx context.Context, v *viewClient) error {
	links, err := c.links(ctx, v)
	if err != nil {
		return err
	}
	if c.output == "json" {
		return writeJSON(c.e.Out, links, "[]")
	}
	if len(links) == 0 {
		fmt.Fprintln(c.e.Out, "No connection is known.")
		return nil
	}
	width, _ := c.e.size()
	if c.output == "wide" {
		width = 0
	}
	return c.table(links, time.Now()).write(c.e.Out, width, c.e.colour())
}

// follow shows what changes until ctx ends.
func (c *connections) follow(ctx context.Context, v *viewClient) error {
	events, err := v.Events(ctx)
	if err != nil {
		return err
	}
	// Ages grow without an event.
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	show := c.changes()
	if c.e.Terminal && c.output != "json" {
		show = c.redraw
	}
	for {
		links, err := c.links(ctx, v)
		if err == nil {
			err = show(links)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		var ages <-chan time.Time
		if c.e.Terminal && c.output != "json" {
			ages = tick.C
		}
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-events:
			if !ok && ctx.Err() == nil {
				return fmt.Errorf("%s ended the stream of changes", v.Name)
			}
		case <-ages:
		}
	}
}

// redraw the terminal.
func (c *connections) redraw(links []truth.Link) error {
	width, height := c.e.size()
	now := time.Now()
	t := c.table(links, now)
	lines := t.lines(width)
	plain := 0
	for _, l := range links {
		if plaintextLetIn(l) {
			plain++
		}
	}
	var b strings.Builder
	b.WriteString("\x1b[H")
	fmt.Fprintf(&b, "%d connections, %d of them plaintext, at %s; Ctrl-C ends\x1b[K\n\x1b[K\n", len(links), plain, now.Format(time.TimeOnly))
	for i, line := range lines {
		if height > 0 && i >= height-4 {
			fmt.Fprintf(&b, "and %d more\x1b[K\n", len(lines)-i)
			break
		}
		if r := []rune(line); width > 0 && len(r) > width {
			line = string(r[:width-1]) + "…"
		}
		if c.e.colour() && i > 0 && t.rows[i-1].loud {
			line = loud(line)
		}
		b.WriteString(line + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	_, err := fmt.Fprint(c.e.Out, b.String())
	return err
}

// changes appends what is new since the call before.
func (c *connections) changes() func([]truth.Link) error {
	var told map[string]string
	var widths []int
	return func(links []truth.Link) error {
		now := time.Now()
		states := map[string]string{}
		var fresh []truth.Link
		for _, l := range slices.Backward(links) { // the newest last
			key := cmp.Or(l.Trace, l.Start.String())
			what, _, _ := strings.Cut(state(l, now), " ")
			states[key] = fmt.Sprint(what, l.Security, l.Rule, l.Generation, l.Seen, l.Disagreement)
			if told[key] != states[key] {
				fresh = append(fresh, l)
			}
		}
		told = states
		if c.output == "json" {
			enc := json.NewEncoder(c.e.Out)
			for _, l := range fresh {
				if err := enc.Encode(l); err != nil {
					return err
				}
			}
			return nil
		}
		t := c.table(fresh, now)
		first := widths == nil
		widths = wider(widths, t.widths(0))
		for i, line := range t.linesIn(widths) {
			if i == 0 && !first {
				continue
			}
			if _, err := fmt.Fprintln(c.e.Out, line); err != nil {
				return err
			}
		}
		return nil
	}
}

func wider(a, b []int) []int {
	for i := range a {
		b[i] = max(a[i], b[i])
	}
	return b
}

func (c *connections) table(links []truth.Link, now time.Time) *table {
	wide := c.output == "wide"
	t := &table{columns: []column{
		{"SOURCE", 12}, {"DESTINATION", 12}, {"SECURITY", 0}, {"TLS", 3}, {"RULE", 12}, {"BYTES", 0}, {"STATE", 0},
	}}
	if wide {
		for _, title := range []string{"PROTOCOL", "REQUESTS", "SOURCE IDENTITY", "DESTINATION IDENTITY", "CIPHER", "ALPN", "RESUMED", "ADDRESSES", "SEEN BY", "ID"} {
			t.columns = append(t.columns, column{title, 0})
		}
	}
	t.columns = append(t.columns, column{"WHY", 0})
	for _, l := range links {
		cells := []string{
			partyName(l.Source), destinationName(l), securityWord(l.Security), tlsWords(l.Handshake), c.rule(l), size(l.Sent + l.Received), state(l, now),
		}
		if wide {
			h := cmp.Or(l.Handshake, &mesh.Handshake{})
			resumed := "-"
			if l.Handshake != nil {
				resumed = map[bool]string{true: "yes", false: "no"}[h.Resumed]
				if h.Reused > 0 {
					resumed = fmt.Sprintf("of %d before", h.Reused)
				}
			}
			requests := "-"
			if l.Requests > 0 {
				requests = strconv.FormatUint(l.Requests, 10)
			}
			cells = append(cells, orDash(string(l.Protocol)), requests, orDash(l.Source.Identity), orDash(l.Destination.Identity),
				orDash(h.Cipher), orDash(h.ALPN), resumed, sockets(l), orDash(l.Seen), orDash(l.Trace))
		}
		t.add(plaintextLetIn(l), append(cells, why(l))...)
	}
	return t
}

// sockets of the connection between the two ends.
func sockets(l truth.Link) string {
	switch {
	case l.AtDestination != nil:
		return l.AtDestination.Source.String() + " > " + l.AtDestination.Destination.String()
	case l.AtSource != nil && l.AtSource.Local.IsValid():
		return l.AtSource.Local.String() + " > " + l.AtSource.Upstream.String()
	case l.AtSource != nil:
		return l.AtSource.Source.String() + " > " + l.AtSource.Destination.String()
	}
	return "-"
}

func orDash(s string) string { return cmp.Or(s, "-") }

// plaintextLetIn is what stands out.
func plaintextLetIn(l truth.Link) bool { return l.Allowed && l.Security == mesh.Plaintext }

// rule that decided: the server's, else the client's.
func (c *connections) rule(l truth.Link) string {
	o := l.Rule
	if o.Name == "" {
		o = l.ClientRule
	}
	name := o.Ref()
	if l.Seen == "source" && l.Destination.Meshed && l.Destination.Workload != "" && l.Rule.Name == "" && failureOf(l) == nil {
		name = "not told" // the server's proxy is yet to say
	}
	if c.output == "wide" && o.Name != "" {
		name = o.String()
	}
	return fmt.Sprintf("%s @%d", name, l.Generation)
}

// state is what became of it, and when.
func state(l truth.Link, now time.Time) string {
	ago := howLong(now.Sub(cmp.Or(l.End, l.LastSeen, l.Start))) + " ago"
	switch f := failureOf(l); {
	case f != nil && f.Stage != mesh.StagePolicy:
		return "failed " + ago
	case !l.Allowed && l.Sent+l.Received > 0:
		return "cut " + ago
	case !l.Allowed:
		return "refused " + ago
	case l.End.IsZero():
		return "open " + howLong(now.Sub(l.Start))
	}
	return "closed " + ago
}

// failureOf is the record of the end that knows more: the one that gave up.
func failureOf(l truth.Link) *mesh.Failure {
	var found *mesh.Failure
	for _, end := range []*truth.Connection{l.AtDestination, l.AtSource} {
		if end != nil && end.Failure != nil && (found == nil || found.ByPeer) {
			found = end.Failure
		}
	}
	return found
}

// why is what there is to say of a connection that is not plain mutual TLS.
func why(l truth.Link) string {
	var words []string
	if l.Disagreement != "" {
		words = append(words, l.Disagreement)
	}
	if l.Security != mesh.MutualTLS || !l.Allowed || failureOf(l) != nil {
		if w := l.Why; w != "" {
			words = append(words, w)
		}
	}
	if (!l.Allowed || failureOf(l) != nil) && l.Trace != "" {
		words = append(words, "hasp why "+l.Trace)
	}
	return strings.Join(words, "; ")
}

// complete names of workloads; whatever is in the way stays unsaid.
func (c *connections) complete(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.e.completeFrom(cmd, &c.target, func(l truth.Link) []string {
		return append(workloadName(l.Source), workloadName(l.Destination)...)
	})
}

// workloadName is the name of an end that is a workload.
func workloadName(p truth.Party) []string {
	if p.Workload == "" {
		return nil
	}
	return []string{partyName(p)}
}
