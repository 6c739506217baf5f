package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"hasp/local"
)

// step is one command of the lab: what the document says around it, the command
// as it would be typed, and what must come of it.
type step struct {
	say  string
	run  string
	exit int      // expected status
	want []string // regular expressions the output must match, all of them
	deny []string // and none of these
	// enforced: the command changes the mesh; wait until every proxy has
	// acknowledged it and say how long that took.
	enforced bool
}

// walker runs steps as a person would, in a shell, in the demo's directory.
type walker struct {
	out   io.Writer
	bold  func(string) string
	dir   string
	env   []string
	state string // state directory of the mesh
}

// outcomeError is a step that ended otherwise than the lab says.
type outcomeError struct {
	step  step
	facts []string
}

func (e *outcomeError) Error() string {
	return fmt.Sprintf("the step %q ended otherwise than the lab says: %s", e.step.run, strings.Join(e.facts, "; "))
}

func (w *walker) walk(ctx context.Context, steps []step) error {
	for _, s := range steps {
		if s.say != "" {
			fmt.Fprintf(w.out, "\n%s\n", w.bold("# "+s.say))
		}
		if err := w.step(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) step(ctx context.Context, s step) error {
	before, err := local.GetStatus(ctx, w.state)
	if err != nil {
		return err
	}
	fmt.Fprintf(w.out, "$ %s\n", s.run)
	var got bytes.Buffer
	cmd := exec.CommandContext(ctx, "sh", "-c", s.run)
	cmd.Dir, cmd.Env = w.dir, w.env
	cmd.Stdout = io.MultiWriter(w.out, &got)
	cmd.Stderr = cmd.Stdout
	err = cmd.Run()
	if b := got.Bytes(); len(b) > 0 && b[len(b)-1] != '\n' {
		fmt.Fprintln(w.out)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("run %q: %w", s.run, err)
	}
	if facts := s.check(cmd.ProcessState.ExitCode(), got.String()); len(facts) > 0 {
		return &outcomeError{s, facts}
	}
	if s.enforced {
		return w.enforced(ctx, before)
	}
	return nil
}

// check compares what came with what the lab says.
func (s step) check(exit int, output string) (facts []string) {
	if exit != s.exit {
		facts = append(facts, fmt.Sprintf("exit status %d, expected %d", exit, s.exit))
	}
	for _, re := range s.want {
		if !regexp.MustCompile(re).MatchString(output) {
			facts = append(facts, fmt.Sprintf("no output like %q", re))
		}
	}
	for _, re := range s.deny {
		if regexp.MustCompile(re).MatchString(output) {
			facts = append(facts, fmt.Sprintf("output like %q, which must not be", re))
		}
	}
	return facts
}

// enforcedWithin is far more than a change takes; past it something is wrong.
const enforcedWithin = 10 * time.Second

func (w *walker) enforced(ctx context.Context, before local.Status) error {
	ctx, cancel := context.WithTimeout(ctx, enforcedWithin)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := local.GetStatus(ctx, w.state)
		if err != nil {
			return err
		}
		if c := now.Control; c.Generation > before.Control.Generation && c.Last.Took() > 0 {
			fmt.Fprintf(w.out, "  (generation %d, enforced by %d proxies in %s)\n", c.Generation, len(c.Proxies), c.Last.Took().Round(100*time.Microsecond))
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the change was not enforced by every proxy within %s; see hasp status", enforcedWithin)
		case <-tick.C:
		}
	}
}
