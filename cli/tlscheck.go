package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"hasp/mesh"
	"hasp/policy"
	"hasp/truth"
	"hasp/world"
)

// newAuthnCmd is "hasp authn", the group istioctl kept tls-check in.
func newAuthnCmd(load worldLoader, facts factsLoader, namespace string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "authn",
		Short: "Ask how services authenticate their callers",
	}
	cmd.AddCommand(newTLSCheckCmd(load, facts, namespace))
	return cmd
}

func newTLSCheckCmd(load worldLoader, facts factsLoader, namespace string) *cobra.Command {
	q := question{load: load, wide: true}
	cmd := &cobra.Command{
		Use:   "tls-check [WORKLOAD[.NAMESPACE]] [HOST]",
		Short: "Check that what a workload speaks suits what each service takes",
		Long: `Check that what a workload speaks suits what each service of the mesh takes.

A row is one port of one service, or of one subset of it (host|subset:port):

  STATUS            OK, AUTO (auto mutual TLS sees to it) or CONFLICT
  SERVER            what the server takes: DISABLE, PERMISSIVE or STRICT
  CLIENT            what the workload is told to speak, "-" when no rule says
  AUTHN POLICY      the object that set SERVER, NAMESPACE/NAME, "/default" for a
                    mesh-wide Policy, "-" when none did (a sidecar then serves
                    PERMISSIVE)
  DESTINATION RULE  the rule that is used, whether it says tls or not, or "-"

Under the table stands why, for each CONFLICT. The columns and the table of what
suits are those of istioctl 1.4, except where it called a call OK that cannot
work: plaintext, because no rule says tls, to a STRICT server, and a missing
sidecar at either end. Those are a CONFLICT.

A running mesh also tells what really happened. With -o wide there are

  ACKED    whether the proxies at both ends have the newest configuration in force,
           or those that have not
  SEEN     the newest real handshake: when, TLS version, key exchange
  BETWEEN  the identities that were shown in it
  VERDICT  STATUS, or DIFFERS when the newest connection was not what the
           configuration says

What differs is said under the table, wide or not.

WORKLOAD is a pod, a Deployment or an app label. Without it every workload that
has a proxy is asked, and those that see the same share a table. HOST limits the
answer to one service.

The mesh asked is the cluster of --kubeconfig, of KUBECONFIG, the mesh on this
machine, or the cluster of ~/.kube/config, the first that there is.

The exit status is 0 whatever the table says; it is 1 when the question could
not be answered. In JSON a server or client mode that nothing sets is absent.`,
		Example: `  hasp authn tls-check app-ui.microservices-demo
  hasp authn tls-check app-ui boards.microservices-demo.svc.cluster.local
  hasp authn tls-check -o wide
  hasp authn tls-check app-ui -f deploy/ -f policy.yaml -o json`,
		Args: cobra.MaximumNArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			switch len(args) {
			case 0:
				return fromWorld(load, &q, workloadNames(true))(cmd, args, toComplete)
			case 1:
				return fromWorld(load, &q, hostNames)(cmd, args, toComplete)
			}
			return nothing(cmd, args, toComplete)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := q.world(cmd)
			if err != nil {
				return err
			}
			f, err := facts(cmd.Context(), &q)
			if err != nil && q.output == "wide" {
				fmt.Fprintln(cmd.ErrOrStderr(), "hasp: the table has no facts:", err)
			}
			args = append(args, "", "")
			return TLSCheck(w, cmd.OutOrStdout(), TLSCheckQuery{
				Workload: args[0], Host: args[1], Namespace: q.namespace, JSON: q.output == "json", Wide: q.output == "wide", Facts: f,
			})
		},
	}
	q.flags(cmd, namespace)
	return cmd
}

// TLSCheckQuery is what to check; empty fields mean all.
type TLSCheckQuery struct {
	Workload  string
	Host      string
	Namespace string // of names that do not say theirs
	JSON      bool
	Wide      bool
	// Facts of the running mesh; nil when there are none.
	Facts *truth.Facts
}

// tlsRow is one line of the table.
type tlsRow struct {
	Workload        string `json:"workload"` // who asks, NAME.NAMESPACE
	Host            string `json:"host"`
	Port            uint16 `json:"port"`
	Subset          string `json:"subset,omitempty"`
	Status          string `json:"status"`
	Server          string `json:"server,omitempty"`
	Client          string `json:"client,omitempty"`
	AuthnPolicy     string `json:"authnPolicy,omitempty"`
	DestinationRule string `json:"destinationRule,omitempty"`
	Why             string `json:"why"`
	// Checked is nil without facts.
	*truth.Checked
}

func (r tlsRow) hostPort() string {
	host := r.Host
	if r.Subset != "" {
		host += "|" + r.Subset
	}
	return fmt.Sprintf("%s:%d", host, r.Port)
}

// TLSCheck writes the table of tls-check, or its rows as JSON.
func TLSCheck(w *world.World, out io.Writer, q TLSCheckQuery) error {
	clients, err := q.clients(w)
	if err != nil {
		return err
	}
	var views [][]tlsRow
	for _, c := range clients {
		services, err := q.services(w, c.Namespace)
		if err != nil {
			return err
		}
		views = append(views, tlsRows(w, q.Facts, c, services))
	}
	if q.JSON {
		return writeJSON(out, slices.Concat(views...), "[]")
	}
	if q.Workload != "" {
		return writeTable(out, views[0], q.Wide)
	}
	return writeViews(out, views, q.Wide)
}

// clients are the workloads whose view is asked for: the one that was named, or
// one of each Deployment with a proxy.
func (q *TLSCheckQuery) clients(w *world.World) ([]*mesh.Workload, error) {
	if q.Workload != "" {
		wl, err := findWorkload(w, q.Workload, q.Namespace)
		if err == nil {
			return []*mesh.Workload{wl}, nil
		}
		// One argument may be the host alone.
		if _, hostErr := findService(w, q.Workload, q.Namespace); q.Host != "" || hostErr != nil {
			return nil, err
		}
		q.Workload, q.Host = "", q.Workload
	}
	seen := map[string]bool{}
	var out []*mesh.Workload
	for _, wl := range w.Workloads {
		if name := policy.WorkloadName(wl); wl.Role != mesh.RoleNone && !seen[name] {
			seen[name] = true
			out = append(out, wl)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no workload has a sidecar; name one to see what it would meet without: hasp authn tls-check WORKLOAD.NAMESPACE")
	}
	return out, nil
}

// services of the mesh that a namespace sees.
func (q *TLSCheckQuery) services(w *world.World, namespace string) ([]*mesh.Service, error) {
	if q.Host != "" {
		svc, err := findService(w, q.Host, namespace)
		if err != nil {
			return nil, err
		}
		if svc.External {
			return nil, fmt.Errorf("%s is outside the mesh, which tls-check leaves out; ask hasp explain", svc.Hostname)
		}
		return []*mesh.Service{svc}, nil
	}
	var out []*mesh.Service
	for _, svc := range w.Services {
		if !svc.External && policy.Visible(svc, namespace) {
			out = append(out, svc)
		}
	}
	return out, nil
}

// tlsRows is one workload's view, by host, then port, then subset.
func tlsRows(w *world.World, f *truth.Facts, from *mesh.Workload, services []*mesh.Service) []tlsRow {
	var rows []tlsRow
	for _, svc := range services {
		subsets := []string{""}
		for _, s := range policy.Subsets(w, from, from.Namespace, svc) {
			subsets = append(subsets, s.Name)
		}
		for _, p := range svc.Ports {
			for _, subset := range subsets {
				r := newTLSRow(policy.Check(w, from, svc, p.Number, subset), from, svc, p.Number, subset)
				if f != nil {
					c := truth.Check(w, f, from, svc, p.Number, subset)
					r.Checked = &c
				}
				rows = append(rows, r)
			}
		}
	}
	slices.SortFunc(rows, func(a, b tlsRow) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Subset, b.Subset), cmp.Compare(a.Port, b.Port))
	})
	return rows
}

func newTLSRow(v policy.Verdict, from *mesh.Workload, svc *mesh.Service, port uint16, subset string) tlsRow {
	r := tlsRow{
		Workload: policy.WorkloadName(from), Host: svc.Hostname, Port: port, Subset: subset,
		Status: v.Status, Server: string(v.Server.Mode), Client: string(v.Client.Mode), Why: v.Why,
	}
	if v.Server.Origin.Name != "" {
		r.AuthnPolicy = v.Server.Origin.Ref()
	}
	if v.Client.Origin.Name != "" {
		r.DestinationRule = v.Client.Origin.Ref()
	}
	return r
}

// writeTable writes istioctl's columns, with its tab stops, and below them why
// and what is otherwise in fact.
func writeTable(out io.Writer, rows []tlsRow, wide bool) error {
	t := tabwriter.NewWriter(out, 0, 8, 5, ' ', 0)
	fmt.Fprint(t, "HOST:PORT\tSTATUS\tSERVER\tCLIENT\tAUTHN POLICY\tDESTINATION RULE")
	if wide {
		fmt.Fprint(t, "\tACKED\tSEEN\tBETWEEN\tVERDICT")
	}
	fmt.Fprintln(t)
	for _, r := range rows {
		// A server that nothing tells serves PERMISSIVE.
		server := cmp.Or(r.Server, string(mesh.ModePermissive))
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s", r.hostPort(), r.Status, server,
			cmp.Or(r.Client, "-"), cmp.Or(r.AuthnPolicy, "-"), cmp.Or(r.DestinationRule, "-"))
		if wide {
			fmt.Fprint(t, "\t"+strings.Join(r.facts(time.Now()), "\t"))
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	gap := "\n"
	for _, r := range rows {
		var lines []string
		if r.Status == policy.Conflict {
			lines = append(lines, r.Why)
		}
		if r.Checked != nil && r.Headline != "" {
			lines = append(lines, printable(r.Headline))
		}
		for _, l := range lines {
			if _, err := fmt.Fprintf(out, "%s  %s  %s\n", gap, r.hostPort(), l); err != nil {
				return err
			}
			gap = ""
		}
	}
	return nil
}

// facts are the cells of the wide columns.
func (r *tlsRow) facts(now time.Time) []string {
	if r.Checked == nil {
		return []string{"-", "-", "-", "-"}
	}
	acked, seen, between := "yes", "-", "-"
	if !r.Acked {
		acked = "not " + listed(r.Behind)
	}
	if s := r.Seen; s != nil && s.TLS != "" {
		seen = howLong(now.Sub(s.At)) + " ago, " + tlsWords(&s.Handshake)
		between = bare(s.LocalIdentity) + " > " + bare(s.PeerIdentity)
	} else if s != nil {
		seen = howLong(now.Sub(s.Last)) + " ago, " + securityWord(s.Security)
	}
	return []string{acked, printable(seen), printable(between), r.Verdict}
}

// bare is an identity without what all have.
func bare(identity string) string { return orDash(strings.TrimPrefix(identity, "spiffe://")) }

// writeViews writes a table for each group of workloads that see the same.
func writeViews(out io.Writer, views [][]tlsRow, wide bool) error {
	var tables []string             // in order of first sight
	sameAs := map[string][]string{} // table to workloads
	for _, rows := range views {
		if len(rows) == 0 {
			continue
		}
		var b strings.Builder
		if err := writeTable(&b, rows, wide); err != nil {
			return err
		}
		// The reasons begin with the workload's own name; let them not keep
		// tables apart that are the same.
		key := strings.ReplaceAll(b.String(), "  "+rows[0].Workload+" ", "  each ")
		if sameAs[key] == nil {
			tables = append(tables, key)
		}
		sameAs[key] = append(sameAs[key], rows[0].Workload)
	}
	for i, table := range tables {
		gap := ""
		if i > 0 {
			gap = "\n"
		}
		if _, err := fmt.Fprintf(out, "%sAs seen by %s:\n%s", gap, strings.Join(sameAs[table], ", "), table); err != nil {
			return err
		}
	}
	return nil
}

// writeJSON writes a value as indented JSON; an empty one as the given text.
func writeJSON(out io.Writer, v any, empty string) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	if string(b) == "null" {
		b = []byte(empty)
	}
	_, err = fmt.Fprintf(out, "%s\n", b)
	return err
}
