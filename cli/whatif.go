package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hasp/api"
	"hasp/source"
	"hasp/truth"
)

// hurtStatus is the exit status when somebody would be worse off.
const hurtStatus = 3

// candidate is the manifests that a command is about.
type candidate struct {
	target    clusterFlags
	paths     []string
	namespace string
	files     []source.File
	objects   []api.Object
}

func (c *candidate) flags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&c.paths, "filename", "f", nil, "manifest `FILE|DIR`, - for standard input; may be repeated")
	cmd.Flags().StringVarP(&c.namespace, "namespace", "n", "", "namespace of objects that do not say theirs (default that of the kubeconfig's context)")
	c.target.register(cmd)
}

// read the files; errors of all of them come at once, with file and line.
func (c *candidate) read(e *env, remove bool) error {
	if len(c.paths) == 0 {
		return usageError{errors.New("say which manifests: -f FILE, -f DIR or -f -")}
	}
	for i, p := range c.paths {
		if p != "-" {
			c.paths[i] = absolute(e.Dir, p)
		}
	}
	var err error
	if c.files, err = source.ReadFiles(e.In, c.paths...); err != nil {
		return err
	}
	var errs []error
	for _, f := range c.files {
		found, err := api.Decode(f.Name, f.Data)
		c.objects, errs = append(c.objects, found...), append(errs, err)
	}
	if !remove {
		errs = append(errs, source.Validate(c.objects))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(c.objects) == 0 {
		return errors.New("there is no object in the manifests")
	}
	if c.namespace == "" {
		c.namespace = c.usualNamespace(e)
	}
	return source.Repeated(c.objects, c.namespace)
}

// usualNamespace is that of the context of whatever cluster is meant.
func (c *candidate) usualNamespace(e *env) string {
	if !c.target.named() {
		return e.namespace()
	}
	if loaded, err := c.target.load(e); err == nil {
		if ns, _, err := loaded.Namespace(); err == nil && ns != "" {
			return ns
		}
	}
	return "default"
}

// yaml is all files as one.
func (c *candidate) yaml() []byte {
	var all [][]byte
	for _, f := range c.files {
		all = append(all, f.Data)
	}
	return bytes.Join(all, []byte("\n---\n"))
}

func newWhatIf(e *env) *cobra.Command {
	var c candidate
	var remove bool
	var output string
	cmd := &cobra.Command{
		Use:   "what-if -f FILE",
		Short: "Show who would be cut if manifests were applied now",
		Long: `Show what would become of everybody if manifests were applied, or deleted, now.
Nothing is changed. Every client that talks, or talked in the time of the ledger,
is asked about: what its next connection would be, and which of its live ones
would end. The live ones are judged by the very function that the proxies judge
them with when a policy changes.

  cut       refused from then on
  weakened  from mutual TLS to less
  reset     live connections end, and may come back as they were
  freed     refused now, let in then
  upgraded  from plaintext to mutual TLS

Clients that nothing is said of are not touched. Below the table stand what would
spare those that are hurt, and warnings about what facts cannot tell: clients that
were never seen, a subset that is still routed to, an object that decides nothing
because it loses to another, proxies that do not report.

The exit status is 0 when nobody is cut or weakened, 3 when somebody is, 1 when
the question could not be answered and 2 when it makes no sense.`,
		Example: `  hasp what-if -f strict.yaml && hasp kubectl apply -f strict.yaml
  hasp what-if -f policies/ -f rules/
  hasp what-if --delete -f allow-web.yaml
  kubectl kustomize prod | hasp what-if -f - -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return usageError{fmt.Errorf("-o %s: only json is known", output)}
			}
			if err := c.read(e, remove); err != nil {
				return err
			}
			v, err := views(cmd.Context(), e, &c.target)
			if err != nil {
				return err
			}
			defer v.Close()
			a, err := v.WhatIfOf(cmd.Context(), c.yaml(), c.namespace, remove)
			if err != nil {
				return err
			}
			if output == "json" {
				err = writeJSON(e.Out, a, "null")
			} else {
				width, _ := e.size()
				err = writeAnswer(e.Out, &a, time.Now(), width, e.colour())
			}
			if err == nil && a.Hurt() {
				err = exitError(hurtStatus)
			}
			return err
		},
	}
	c.flags(cmd)
	cmd.Flags().BoolVar(&remove, "delete", false, "what if the objects were deleted")
	cmd.Flags().StringVarP(&output, "output", "o", "", "json for the same as JSON")
	offer(cmd, "output", "json")
	offerFound(cmd, "namespace", e.completeNamespace(&c.target))
	return cmd
}

// writeAnswer for a person: the objects, who is touched, what would help, and
// what is not known.
func writeAnswer(out io.Writer, a *truth.Answer, now time.Time, width int, colour bool) error {
	var b strings.Builder
	for _, o := range a.Objects {
		fmt.Fprintln(&b, printable(o))
	}
	if len(a.Effects) > 0 {
		b.WriteString("\n")
		t := table{columns: []column{{"EFFECT", 0}, {"CLIENT", 12}, {"SERVER", 12}, {"LIVE", 0}, {"SEEN", 0}, {"WHY", 0}}}
		for _, x := range a.Effects {
			t.add(hurts(x), strings.ToUpper(x.What), client(x), withPort(partyName(x.Destination), x.Port), strconv.Itoa(x.Live), ago(x.Last, now), x.Why)
		}
		if err := t.write(&b, width, colour); err != nil {
			return err
		}
	}
	section := func(title string, lines []string) {
		if len(lines) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n%s\n", title)
		for _, l := range lines {
			fmt.Fprintf(&b, "  %s\n", printable(l))
		}
	}
	section("What would spare them:", fixes(a.Effects))
	section("Not told by facts:", a.Warnings)
	if len(a.Blind) > 0 {
		section("These proxies do not report, and what they carry is not in the answer:", []string{listed(a.Blind)})
	}
	fmt.Fprintf(&b, "\n%s\n", verdict(a))
	_, err := io.WriteString(out, b.String())
	return err
}

func hurts(x truth.Effect) bool { return x.What == truth.Cut || x.What == truth.Weakened }

// client and how many pods of it.
func client(x truth.Effect) string {
	if n := len(x.Pods); n > 1 {
		return fmt.Sprintf("%s (%d pods)", partyName(x.Source), n)
	}
	return partyName(x.Source)
}

func ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return howLong(now.Sub(t)) + " ago"
}

// fixes for those that are hurt, each with the clients that it is for.
func fixes(effects []truth.Effect) []string {
	var order []string
	whose := map[string][]string{}
	for _, x := range effects {
		if !hurts(x) || x.Fix == "" {
			continue
		}
		if whose[x.Fix] == nil {
			order = append(order, x.Fix)
		}
		whose[x.Fix] = append(whose[x.Fix], partyName(x.Source))
	}
	var out []string
	for _, f := range order {
		out = append(out, listed(whose[f])+": "+f)
	}
	return out
}

// verdict is the answer in a sentence.
func verdict(a *truth.Answer) string {
	count := map[string]int{}
	live := 0
	for _, x := range a.Effects {
		count[x.What]++
		live += x.Live
	}
	var parts []string
	for _, p := range []struct{ what, words string }{
		{truth.Cut, "cut"}, {truth.Weakened, "weakened"}, {truth.Reset, "reset"}, {truth.Freed, "freed"}, {truth.Upgraded, "upgraded to mutual TLS"},
	} {
		if n := count[p.what]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, p.words))
		}
	}
	since := ""
	if !a.Since.IsZero() {
		since = " (by what was seen since " + moment(a.Since) + ")"
	}
	switch {
	case len(parts) == 0:
		return "Nobody is touched" + since + "."
	case !a.Hurt():
		return fmt.Sprintf("Nobody is hurt: %s; %s%s.", strings.Join(parts, ", "), connectionsEnd(live), since)
	}
	return fmt.Sprintf("Somebody is hurt: %s; %s%s.", strings.Join(parts, ", "), connectionsEnd(live), since)
}

func connectionsEnd(n int) string {
	switch n {
	case 0:
		return "no live connection ends"
	case 1:
		return "1 live connection ends"
	}
	return strconv.Itoa(n) + " live connections end"
}
