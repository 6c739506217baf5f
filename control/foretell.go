package control

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"hasp/truth"
)

const (
	// foretellTime bounds how long a dry run waits for its warnings.
	foretellTime = 2 * time.Second
	// maxForetold bounds them, and maxWarning each, in characters: an API server
	// passes on no longer ones.
	maxForetold = 10
	maxWarning  = 250
)

// Foretell is WhatIf for a dry run of one object: a line for each client that
// would be worse off, none when nobody would, and one when it cannot tell, for
// silence would say that nobody is hurt. It takes two seconds at most.
func (c *Control) Foretell(ctx context.Context, u *unstructured.Unstructured, remove bool) []string {
	ctx, cancel := context.WithTimeout(ctx, foretellTime)
	defer cancel()
	select {
	case c.foretelling <- struct{}{}: // one at a time, also of those nobody waits for any more
	case <-ctx.Done():
		return unmeasured("others are asked first")
	}
	lines := make(chan []string, 1)
	go func() {
		defer func() { <-c.foretelling }()
		lines <- c.foretell(u.DeepCopy(), remove)
	}()
	select {
	case l := <-lines:
		return l
	case <-ctx.Done():
		return unmeasured("it takes longer than a dry run waits")
	}
}

// unmeasured is the line of a dry run that nothing can be told of.
func unmeasured(why string) []string {
	return []string{warningLine("what-if: not measured: " + why + "; ask with hasp what-if -f FILE")}
}

func (c *Control) foretell(u *unstructured.Unstructured, remove bool) []string {
	manifest, err := u.MarshalJSON()
	if err != nil {
		return nil
	}
	a, err := c.WhatIf(bytes.NewReader(manifest), u.GetNamespace(), remove)
	if err != nil {
		return unmeasured(err.Error())
	}
	return foretold(&a)
}

// foretold are the lines of an answer. Pods of one Deployment are one client.
func foretold(a *truth.Answer) []string {
	var out []string
	add := func(text string) {
		if line := warningLine("what-if: " + text); !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	for _, e := range a.Effects {
		switch e.What {
		case truth.Cut:
			add(fmt.Sprintf("client %s would be cut from %s: %s", partyName(e.Source), serverName(&e), e.Why))
		case truth.Weakened:
			add(fmt.Sprintf("client %s would speak plaintext to %s: %s", partyName(e.Source), serverName(&e), e.Why))
		}
	}
	for _, w := range a.Warnings {
		if w != truth.NothingChanges {
			add(w)
		}
	}
	if more := len(out) - maxForetold; more > 0 {
		out = append(out[:maxForetold], fmt.Sprintf("what-if: and %d more: hasp what-if -f FILE lists them", more))
	}
	return out
}

func partyName(p truth.Party) string {
	switch {
	case p.Owner != "":
		return p.Namespace + "/" + p.Owner
	case p.Workload != "":
		return p.Workload
	case p.Process != "":
		return "process " + p.Process
	case p.Address != "":
		return p.Address
	}
	return cmp.Or(p.Identity, p.String())
}

// serverName is NAME.NAMESPACE:PORT of a service, when it is known by one.
func serverName(e *truth.Effect) string {
	name := partyName(e.Destination)
	if e.Service != "" {
		name, _, _ = strings.Cut(e.Service, ".svc.")
	}
	return fmt.Sprintf("%s:%d", name, e.Port)
}

// warningLine is a text as an HTTP header may carry it.
func warningLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if r := []rune(s); len(r) > maxWarning {
		return string(r[:maxWarning-3]) + "..."
	}
	return s
}
