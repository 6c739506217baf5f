package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hasp/mesh"
	"hasp/truth"
)

func newPlaintext(e *env) *cobra.Command {
	var target clusterFlags
	var namespace, output string
	var check bool
	cmd := &cobra.Command{
		Use:   "plaintext [WORKLOAD[.NAMESPACE]]",
		Short: "Show who reached which server without mutual TLS, why, and what would fix it",
		Long: `Show the ledger of plaintext: for each server, who reached it without mutual TLS
in the time that is remembered (30 days unless set otherwise; a restart forgets
nothing, but the control plane of a cluster begins anew when all its pods are
replaced), when first and last, how often, why, and what would fix it. The
application's own TLS counts too, since STRICT refuses it. A client that has gone
over to mutual TLS is listed with the time since when, and hinders nobody any more.
The last line says whether STRICT is safe for the servers that were called. What
never happened in that time is not in it.

WORKLOAD is a server: a pod, a Deployment, or its NAME.NAMESPACE.

The exit status is 0 whatever the ledger says; with --check it is 3 when STRICT
would cut somebody or a proxy does not report, so that a pipeline stops there.`,
		Example: `  hasp plaintext
  hasp plaintext boards.shop
  hasp plaintext -n shop --check && kubectl apply -f strict.yaml`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return e.completeFrom(cmd, &target, func(l truth.Link) []string { return workloadName(l.Destination) })
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
			ledger, err := v.Plaintext(cmd.Context())
			if err != nil {
				return err
			}
			if err := limitLedger(&ledger, append(args, "")[0], namespace); err != nil {
				return err
			}
			if output == "json" {
				err = writeJSON(e.Out, ledger, "null")
			} else {
				err = writeLedger(e.Out, &ledger, e.colour())
			}
			if err == nil && check && (slices.ContainsFunc(ledger.Lines, hinders) || len(ledger.Blind) > 0) {
				err = exitError(3)
			}
			return err
		},
	}
	target.register(cmd)
	fs := cmd.Flags()
	fs.StringVarP(&namespace, "namespace", "n", "", "only servers of this namespace")
	fs.StringVarP(&output, "output", "o", "", "json for the same as JSON")
	offer(cmd, "output", "json")
	offerFound(cmd, "namespace", e.completeNamespace(&target))
	fs.BoolVar(&check, "check", false, "exit status 3 when STRICT would cut somebody")
	return cmd
}

// limitLedger to one server or one namespace.
func limitLedger(l *truth.PlainLedger, workload, namespace string) error {
	if workload == "" && namespace == "" {
		return nil
	}
	name := workload
	if ns, bare, ok := strings.Cut(workload, "/"); ok {
		namespace, name = ns, bare
	} else if i := strings.LastIndexByte(workload, '.'); i > 0 && slices.ContainsFunc(l.Servers, func(c truth.Called) bool { return c.Namespace == workload[i+1:] }) {
		namespace, name = workload[i+1:], workload[:i]
	}
	l.Lines = slices.DeleteFunc(l.Lines, func(p truth.Plain) bool {
		return !inNamespace(p.Destination, namespace) || name != "" && !isNamed(p.Destination, name)
	})
	var known []string
	for _, c := range l.Servers {
		known = append(known, c.Name+"."+c.Namespace)
	}
	l.Servers = slices.DeleteFunc(l.Servers, func(c truth.Called) bool {
		// A pod's name is in the lines only.
		is := name == "" || c.Name == name || slices.ContainsFunc(l.Lines, func(p truth.Plain) bool {
			return p.Destination.Namespace == c.Namespace && p.Destination.Owner == c.Name
		})
		return namespace != "" && c.Namespace != namespace || !is
	})
	l.Blind = slices.DeleteFunc(l.Blind, func(node string) bool {
		return namespace != "" && !strings.HasPrefix(node, namespace+"/")
	})
	if workload != "" && len(l.Servers) == 0 && len(l.Lines) == 0 {
		return fmt.Errorf("nobody called %s since %s; there were calls of %s", workload, moment(l.Since), listed(known))
	}
	return nil
}

// hinders: STRICT would cut the client.
func hinders(p truth.Plain) bool { return p.Hinders() }

// writeLedger for a person.
func writeLedger(out io.Writer, l *truth.PlainLedger, colour bool) error {
	var b strings.Builder
	byServer := map[string][]truth.Plain{}
	var servers []string
	for _, p := range l.Lines {
		name := withPort(partyName(p.Destination), p.Port)
		if byServer[name] == nil {
			servers = append(servers, name)
		}
		byServer[name] = append(byServer[name], p)
	}
	for _, name := range servers {
		title := printable(name)
		if colour {
			title = loud(title)
		}
		fmt.Fprintln(&b, title)
		for _, p := range byServer[name] {
			writePlain(&b, p, l.At)
		}
		fmt.Fprintln(&b)
	}
	fmt.Fprintln(&b, safety(l))
	if l.Forgotten > 0 {
		fmt.Fprintf(&b, "%d lines were forgotten, as there was no room for them.\n", l.Forgotten)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func writePlain(b *strings.Builder, p truth.Plain, now time.Time) {
	what := ""
	if p.Security == mesh.PassedTLS {
		what = " with its own TLS"
	}
	times := "once"
	if p.Count != 1 {
		times = fmt.Sprintf("%d times", p.Count)
	}
	open := ""
	if p.Open > 0 {
		open = fmt.Sprintf(", %d open now", p.Open)
	}
	fmt.Fprintf(b, "  from %s%s: %s, first %s, last %s (%s ago)%s\n", printable(partyName(p.Source)), what, times, moment(p.First), moment(p.Last), howLong(now.Sub(p.Last)), open)
	if !hinders(p) {
		fmt.Fprintf(b, "    mutual TLS since %s\n", moment(p.MutualSince))
		return
	}
	if p.Why != "" {
		fmt.Fprintf(b, "    why  %s\n", printable(p.Why))
	}
	if p.Fix != "" {
		fmt.Fprintf(b, "    fix  %s\n", printable(p.Fix))
	}
}

// safety is what the ledger says about STRICT.
func safety(l *truth.PlainLedger) string {
	newest := l.Since
	for _, p := range l.Lines {
		if p.Last.After(newest) {
			newest = p.Last
		}
	}
	watched, quiet := spelled(l.At.Sub(l.Since)), spelled(l.At.Sub(newest))
	var unsafe, safe, bare []string
	for _, s := range l.Servers {
		name := printable(s.Name + "." + s.Namespace)
		switch {
		case s.Plain > 0:
			unsafe = append(unsafe, name)
		case !s.Meshed:
			bare = append(bare, name)
		default:
			safe = append(safe, name)
		}
	}
	var says []string
	switch {
	case len(unsafe) > 0:
		of := fmt.Sprintf("%d of the %d servers that were", len(unsafe), len(l.Servers))
		if len(l.Servers) == 1 {
			of = "the one server that was"
		}
		says = append(says, fmt.Sprintf("STRICT is not safe for %s called in %s: %s.", of, watched, listed(unsafe)))
		if len(safe) > 0 {
			says = append(says, fmt.Sprintf("It is safe for %s.", listed(safe)))
		}
	case len(l.Servers) == 0 || l.Since.IsZero():
		says = append(says, "Nothing was called yet, so nothing can be said about STRICT.")
	case len(safe) == 1:
		says = append(says, fmt.Sprintf("No plaintext for %s: STRICT is safe for the one server that was called, %s.", quiet, safe[0]))
	case len(safe) > 0:
		says = append(says, fmt.Sprintf("No plaintext for %s: STRICT is safe for all %d servers that were called.", quiet, len(safe)))
	default:
		says = append(says, fmt.Sprintf("No plaintext for %s.", quiet))
	}
	if len(bare) > 0 {
		says = append(says, fmt.Sprintf("No sidecar could enforce STRICT at %s.", listed(bare)))
	}
	if len(l.Blind) > 0 {
		says = append(says, fmt.Sprintf("Nothing is known of %s, whose proxies do not report.", printable(listed(l.Blind))))
	}
	return strings.Join(says, "\n")
}
