package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hasp/control"
	"hasp/dashboard"
	"hasp/proof"
)

// verifyFlags are those of hasp verify.
type verifyFlags struct {
	target                       clusterFlags
	namespace                    string
	output, report, check, roots string
}

func newVerify(e *env) *cobra.Command {
	f := &verifyFlags{}
	cmd := &cobra.Command{
		Use:   "verify [WORKLOAD[.NAMESPACE]...]",
		Short: "Prove that a workload's ports refuse strangers, and sign the proof",
		Long: `Knock at the ports of workloads as strangers would, at each of their addresses,
and say what became of it: plaintext, TLS without a certificate, a certificate of
another authority and one of another trust domain must be refused; a member of
the mesh must be let in, and the server must prove who it is. On one machine the
capture of each workload is looked at too, from inside. Without a WORKLOAD (a pod
or a Deployment) all that have a sidecar are tried.

It is safe in production: the member's connection ends after its handshake, and
the plaintext attempt, one line, is made only at ports that are STRICT. Where the
mode is PERMISSIVE or DISABLE it says that plaintext is let in, and which object
says so.

--report keeps the result as JSON, signed by the control plane with its
certificate of the mesh; hasp verify --check FILE tells anywhere and without the
mesh whether it was changed. Give the mesh's roots with --roots, or compare the
fingerprints that it prints.

The exit status is 3 when something is not as it should be.`,
		Example: `  hasp verify
  hasp verify -n shop
  hasp verify boards.shop --report boards.json
  hasp verify --check boards.json --roots root-cert.pem`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			return fromWorld(e.world, &question{target: f.target}, workloadNames(true))(cmd, args, toComplete)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), e, args) },
	}
	f.target.register(cmd)
	fs := cmd.Flags()
	fs.StringVarP(&f.namespace, "namespace", "n", "", "only workloads of this namespace")
	fs.StringVarP(&f.output, "output", "o", "", "json for the signed report")
	offer(cmd, "output", "json")
	offerFound(cmd, "namespace", e.completeNamespace(&f.target))
	fs.StringVar(&f.report, "report", "", "`FILE` to write the signed report to")
	fs.StringVar(&f.check, "check", "", "`FILE` with a signed report: check it, and try nothing")
	fs.StringVar(&f.roots, "roots", "", "with --check, `FILE` with the mesh's roots in PEM")
	return cmd
}

func (f *verifyFlags) run(ctx context.Context, e *env, names []string) error {
	switch {
	case f.output != "" && f.output != "json":
		return usageError{fmt.Errorf("-o %s: only json is known", f.output)}
	case f.check != "" && (len(names) > 0 || f.report != "" || f.namespace != ""):
		return usageError{errors.New("--check reads a report, and tries no workload")}
	case f.check == "" && f.roots != "":
		return usageError{errors.New("--roots is for --check")}
	}
	var signed *proof.Signed
	var err error
	if f.check != "" {
		signed, err = readReport(absolute(e.Dir, f.check))
	} else {
		signed, err = f.ask(ctx, e, names)
	}
	if err != nil {
		return err
	}
	var roots []byte
	if f.roots != "" {
		if roots, err = os.ReadFile(absolute(e.Dir, f.roots)); err != nil {
			return fmt.Errorf("read the roots: %w", err)
		}
	}
	if f.report != "" {
		if err := writeReport(absolute(e.Dir, f.report), signed); err != nil {
			return err
		}
	}
	return f.show(e, signed, roots)
}

// show a report once its signature is checked: what we just got, too.
func (f *verifyFlags) show(e *env, signed *proof.Signed, roots []byte) error {
	var r proof.Report
	var by string
	checked, err := signed.Check(roots, func(trustDomain string) []string { return []string{control.Identity(trustDomain)} })
	switch {
	case err == nil:
		r, by = checked.Report, signature(checked, roots != nil)
	case f.check == "" && signed.Roots == "":
		// A foreign authority signs for the mesh, and only it has the roots as PEM.
		if err := json.Unmarshal(signed.Report, &r); err != nil {
			return fmt.Errorf("read the report: %w", err)
		}
		by = "Signed by " + r.By + "; check it with --check and the roots of the mesh's authority."
	default:
		return err
	}
	if f.output == "json" {
		err = writeJSON(e.Out, signed, "null")
	} else {
		err = writeProof(e.Out, &r, by, e.colour())
	}
	if err == nil && r.Tally()[proof.Failed] > 0 {
		err = exitError(3)
	}
	return err
}

func signature(c *proof.Checked, given bool) string {
	s := "Signed by " + c.Signer + ", " + moment(c.At) + "; the signature is good. "
	if given {
		return s + "It rests on the roots that were given."
	}
	return s + "It rests on the root " + strings.Join(c.Roots, ", ") + " (SHA-256)."
}

// ask the control plane.
func (f *verifyFlags) ask(ctx context.Context, e *env, names []string) (*proof.Signed, error) {
	v, err := views(ctx, e, &f.target)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return dashboard.Post[*proof.Signed](ctx, v.Remote, "/verify", url.Values{"workload": names, "namespace": {f.namespace}}, nil)
}

func readReport(file string) (*proof.Signed, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the report: %w", err)
	}
	defer in.Close()
	var s proof.Signed
	if err := json.NewDecoder(io.LimitReader(in, proof.MaxReport)).Decode(&s); err != nil {
		return nil, fmt.Errorf("read the report %s: %w", file, err)
	}
	return &s, nil
}

func writeReport(file string, s *proof.Signed) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = os.WriteFile(file, append(b, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// verdicts as a person sees them, with what colours them on a terminal (ANSI).
var verdicts = map[proof.Verdict]struct{ sign, colour string }{
	proof.Proven: {"√", "\x1b[32m"}, proof.Failed: {"×", "\x1b[31m"}, proof.Open: {"-", "\x1b[33m"}, proof.Unknown: {"?", "\x1b[33m"},
}

// writeProof for a person: a line a check, and under it what was seen. With
// --check the words may be a stranger's, who signed them as the control plane of
// some mesh.
func writeProof(out io.Writer, r *proof.Report, by string, colour bool) error {
	var b strings.Builder
	for _, w := range r.Workloads {
		fmt.Fprintln(&b, printable(strings.TrimSpace(w.Workload+"  "+w.Identity)))
		for _, c := range w.Checks {
			mark := verdicts[c.Verdict]
			if colour {
				mark.sign = mark.colour + mark.sign + "\x1b[0m"
			}
			fmt.Fprintf(&b, "  %s %s\n", mark.sign, printable(proofLine(c)))
			for _, e := range c.Evidence {
				fmt.Fprintf(&b, "      %s\n", printable(seen(c, e)))
			}
		}
		b.WriteByte('\n')
	}
	n := r.Tally()
	fmt.Fprintf(&b, "%d proven, %d failed, %d let in as configured, %d unknown\n%s\n", n[proof.Proven], n[proof.Failed], n[proof.Open], n[proof.Unknown], printable(by))
	_, err := io.WriteString(out, b.String())
	return err
}

func proofLine(c proof.Check) string {
	s := c.Says
	if c.Port != 0 {
		s = fmt.Sprintf("%d: %s", c.Port, s)
	}
	if c.Mode != "" && (c.Verdict == proof.Open || c.Verdict == proof.Failed || c.Name == string(proof.Plain)) {
		s += " (" + string(c.Mode)
		if c.Rule.Name != "" {
			s += " by " + c.Rule.String()
		}
		s += ")"
	}
	return s
}

// seen is one attempt in a line. Who the server is is of interest once.
func seen(c proof.Check, e proof.Evidence) string {
	parts := []string{e.Saw}
	if e.Took > 0 {
		parts[0] += " after " + e.Took.Round(100*time.Microsecond).String()
	}
	if c.Name == string(proof.Member) && e.TLS != "" {
		parts = append(parts, "TLS "+e.TLS+" "+e.Group, "server "+e.Identity)
	}
	if e.Proxy != "" {
		parts = append(parts, "its proxy: "+e.Proxy)
	}
	if e.Trace != "" {
		parts = append(parts, "trace "+e.Trace)
	}
	return strings.Join(slices.DeleteFunc([]string{e.Address, strings.Join(parts, "; ")}, func(s string) bool { return s == "" }), "  ")
}
