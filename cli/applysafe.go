package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/dynamic"

	"hasp/source"
	"hasp/truth"
)

const (
	// lookAgain is how often what is waited for is looked at.
	lookAgain = 300 * time.Millisecond
	// wayBack is the time that going back to the old state has.
	wayBack = 30 * time.Second
)

func newApply(e *env) *cobra.Command {
	a := &applying{e: e}
	var safe bool
	cmd := &cobra.Command{
		Use:   "apply --safe -f FILE",
		Short: "Apply policy in an order that cuts nobody, or not at all",
		Long: `Apply manifests in steps, such that nobody is refused on the way:

  1  server objects that let in more (STRICT to PERMISSIVE, ...)
  2  client objects (DestinationRule) and all others
  3  server objects that let in less (PERMISSIVE to STRICT, authorization, ...)

What each step would do is asked first, as by hasp what-if. When somebody would
be cut nothing is applied: the client's own rule must come with the manifests, or
be there. After each step every proxy has to acknowledge it. Before step 3 every
pair of workloads that talks in plaintext now, and is to speak mutual TLS, has to
be seen doing so by the proxies of both ends.

If that does not happen within --timeout, or on Ctrl-C, everything goes back to
what it was: changed objects get their old content, new ones are deleted. Those
that kept it waiting are named.

The exit status is 0 when all is applied, 3 when nothing was because somebody
would be cut, 1 when it failed or went back, and 2 when the question makes no
sense.`,
		Example: `  hasp apply --safe -f strict.yaml -f mtls-rules.yaml
  hasp apply --safe --dry-run -f policies/
  hasp apply --safe --timeout 10m -f strict.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !safe {
				return usageError{errors.New("hasp apply needs --safe; to apply at once and in any order use hasp kubectl apply")}
			}
			if a.timeout <= 0 {
				return usageError{fmt.Errorf("--timeout %s: must be more than nothing", a.timeout)}
			}
			return a.run(cmd.Context())
		},
	}
	a.candidate.flags(cmd)
	fs := cmd.Flags()
	fs.BoolVar(&safe, "safe", false, "in an order that cuts nobody")
	fs.DurationVar(&a.timeout, "timeout", 2*time.Minute, "how long to wait for proxies and for proof before going back")
	fs.BoolVar(&a.dryRun, "dry-run", false, "show the steps and what each would do, and apply nothing")
	return cmd
}

// applying is hasp apply --safe.
type applying struct {
	e         *env
	candidate candidate
	timeout   time.Duration
	dryRun    bool

	ask      oracle
	store    store
	steps    []*stage
	progress *progress
	said     string
	since    time.Time // when it began, by the control plane's clock
}

// oracle is what is asked of the control plane.
type oracle interface {
	WhatIfOf(ctx context.Context, manifests []byte, namespace string, remove bool) (truth.Answer, error)
	Links(ctx context.Context, workload string) ([]truth.Link, error)
	Facts(ctx context.Context) (*truth.Facts, error)
}

// stage is objects that are applied together.
type stage struct {
	name    string
	objects []*object
}

func (a *applying) run(ctx context.Context) error {
	if err := a.candidate.read(a.e, false); err != nil {
		return err
	}
	v, err := views(ctx, a.e, &a.candidate.target)
	if err != nil {
		return err
	}
	defer v.Close()
	rc, err := a.e.rest(a.candidate.target)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(rc)
	if err != nil {
		return err
	}
	objects, err := newObjects(rc, a.candidate.objects, a.candidate.namespace)
	if err != nil {
		return err
	}
	read, _, err := source.ReadCluster(ctx, client)
	if err != nil {
		return err
	}
	a.ask, a.store = v, &apiServer{client}
	a.plan(objects, read)
	return a.do(ctx)
}

// plan puts the objects into steps.
func (a *applying) plan(objects []*object, read *source.Objects) {
	steps := []*stage{{name: "servers let in more"}, {name: "clients"}, {name: lessStep}}
	for _, o := range objects {
		at := &steps[o.order(read, a.candidate.namespace)].objects
		*at = append(*at, o)
	}
	a.steps = slices.DeleteFunc(steps, func(s *stage) bool { return len(s.objects) == 0 })
}

// do it, or not at all.
func (a *applying) do(ctx context.Context) error {
	a.progress = newProgress(a.e.Err, a.e.Terminal)
	defer a.progress.done()
	proofs, err := a.foresee(ctx)
	if err != nil || a.dryRun {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	err = a.advance(limited, proofs)
	if err == nil {
		a.progress.done()
		fmt.Fprintf(a.e.Out, "Applied, and every connected proxy has it: %s.\n", strings.Join(names(a.steps...), ", "))
		return nil
	}
	why := err.Error()
	switch {
	case ctx.Err() != nil:
		why = "interrupted"
	case limited.Err() != nil:
		why = fmt.Sprintf("not done within %s", a.timeout)
	}
	if a.said != "" {
		why += ", while " + a.said
	}
	a.progress.done()
	back, cancelBack := context.WithTimeout(context.WithoutCancel(ctx), wayBack)
	defer cancelBack()
	if err := a.goBack(back); err != nil {
		return fmt.Errorf("%s; going back failed too: %w", why, err)
	}
	return fmt.Errorf("%s; everything is as it was before", why)
}

// foresee asks what each step would do, on top of those before it, and refuses
// when somebody would be cut. It returns the pairs that must be seen to speak
// mutual TLS before the last step.
func (a *applying) foresee(ctx context.Context) ([]pair, error) {
	var so []*object
	var last *truth.Answer
	for i, s := range a.steps {
		so = append(so, s.objects...)
		answer, err := a.ask.WhatIfOf(ctx, manifestOf(so), a.candidate.namespace, false)
		if err != nil {
			return nil, err
		}
		last = &answer
		cut := slices.ContainsFunc(answer.Effects, func(x truth.Effect) bool { return x.What == truth.Cut })
		if a.dryRun || cut {
			fmt.Fprintf(a.e.Out, "Step %d of %d, %s: %s\n", i+1, len(a.steps), s.name, strings.Join(names(s), ", "))
		}
		if cut {
			width, _ := a.e.size()
			if err := writeAnswer(a.e.Out, &answer, time.Now(), width, a.e.colour()); err != nil {
				return nil, err
			}
			fmt.Fprintln(a.e.Out, "Nothing was applied.")
			return nil, exitError(hurtStatus)
		}
	}
	if a.dryRun {
		width, _ := a.e.size()
		if err := writeAnswer(a.e.Out, last, time.Now(), width, a.e.colour()); err != nil {
			return nil, err
		}
		fmt.Fprintln(a.e.Out, "Nothing was applied: --dry-run.")
		return nil, nil
	}
	if len(last.Blind) > 0 {
		fmt.Fprintf(a.e.Err, "hasp: these proxies do not report, and whom they carry was not asked about: %s\n", listed(last.Blind))
	}
	return a.pairs(ctx, last)
}

// advance takes the steps.
func (a *applying) advance(ctx context.Context, proofs []pair) error {
	for i, s := range a.steps {
		if i == len(a.steps)-1 && s.name == lessStep {
			if err := a.proven(ctx, proofs); err != nil {
				return err
			}
		}
		a.say("step %d of %d, %s: applying %s", i+1, len(a.steps), s.name, strings.Join(names(s), ", "))
		for _, o := range s.objects {
			if err := o.apply(ctx, a.store); err != nil {
				return err
			}
		}
		if err := a.acknowledged(ctx, i, s); err != nil {
			return err
		}
	}
	return nil
}

// say what is being done.
func (a *applying) say(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); s != a.said {
		a.said = s
		a.progress.step(s)
	}
}

// until looks again and again.
func until(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// acknowledged waits until every connected proxy has what a step applied.
func (a *applying) acknowledged(ctx context.Context, number int, s *stage) error {
	return until(ctx, func() (bool, error) {
		behind := 0
		for _, o := range s.objects {
			ok, err := a.took(ctx, o)
			if err != nil {
				return false, err
			}
			if !ok {
				behind++
			}
		}
		if behind == 0 {
			return true, nil
		}
		f, err := a.ask.Facts(ctx)
		if err != nil {
			return false, err
		}
		var laggards []string
		for _, p := range f.Proxies {
			if p.Connected && p.Generation < f.Generation {
				laggards = append(laggards, p.Node)
			}
		}
		if len(laggards) == 0 {
			a.say("step %d of %d, %s: waiting for the control plane", number+1, len(a.steps), s.name)
		} else {
			a.say("step %d of %d, %s: waiting for the proxies of %s", number+1, len(a.steps), s.name, listed(laggards))
		}
		return false, nil
	})
}

// took reports whether the control plane and its proxies have an object.
func (a *applying) took(ctx context.Context, o *object) (bool, error) {
	if o.tellsStatus() {
		return o.reconciled(ctx, a.store)
	}
	answer, err := a.ask.WhatIfOf(ctx, manifestOf([]*object{o}), a.candidate.namespace, false)
	if err != nil {
		return false, err
	}
	f, err := a.ask.Facts(ctx)
	if err != nil {
		return false, err
	}
	for _, said := range answer.Objects {
		if strings.HasSuffix(said, source.Created) || strings.HasSuffix(said, " "+source.Changed) {
			return false, nil
		}
	}
	return !slices.ContainsFunc(f.Proxies, func(p truth.Reporter) bool { return p.Connected && p.Generation < answer.Generation }), nil
}

// goBack restores what the steps applied, the last first.
func (a *applying) goBack(ctx context.Context) error {
	var errs []error
	for i, s := range slices.Backward(a.steps) {
		touched := false
		for _, o := range slices.Backward(s.objects) {
			did, err := o.restore(ctx, a.store)
			touched = touched || did
			if err != nil {
				errs = append(errs, err)
			}
		}
		if touched && i > 0 {
			// What lets in more again comes first, and has to be there.
			if err := a.settle(ctx); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// settle waits until every connected proxy has the newest configuration, for a
// while.
func (a *applying) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, wayBack/3)
	defer cancel()
	seen := 0
	err := until(ctx, func() (bool, error) {
		f, err := a.ask.Facts(ctx)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(f.Proxies, func(p truth.Reporter) bool { return p.Connected && p.Generation < f.Generation }) {
			seen = 0
			return false, nil
		}
		seen++
		return seen > 1, nil // the change itself may not have been read yet
	})
	if ctx.Err() != nil {
		return nil // who does not answer must not keep the others waiting
	}
	return err
}

// manifestOf objects, as JSON documents.
func manifestOf(objects []*object) []byte {
	var docs []string
	for _, o := range objects {
		b, err := json.Marshal(o.want)
		if err != nil {
			continue // it was decoded from a manifest
		}
		docs = append(docs, string(b))
	}
	return []byte(strings.Join(docs, "\n---\n"))
}

func names(steps ...*stage) []string {
	var out []string
	for _, s := range steps {
		for _, o := range s.objects {
			out = append(out, o.String())
		}
	}
	return out
}
