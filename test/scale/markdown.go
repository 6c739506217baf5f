package main

import (
	"fmt"
	"strings"
)

// Markdown is the page docs/scale.md.
func (r *Result) Markdown() string {
	var b strings.Builder
	b.WriteString(`# The control plane at scale

Written by ` + "`make scale`" + `: the real control plane over a small API server that holds
the objects, and the xDS clients of real proxies, each with a certificate and a
connection of its own, in a process of their own. Machines differ and others share
this one: compare figures of one page with each other.

`)
	fmt.Fprintf(&b, "%s.\n%s, %s.\n\n", r.title(), r.Machine, r.At.Format("2006-01-02"))
	b.WriteString("| | |\n| --- | --- |\n")
	for _, row := range r.rows() {
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], row[1])
	}
	b.WriteString("\n## What a change costs\n\n")
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat(" --- |", len(columns)))
	for _, c := range r.Changes {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(c.cells(), " | "))
	}
	b.WriteString("\nAll figures are for one change:\n\n")
	for _, c := range r.Changes {
		fmt.Fprintf(&b, "- **%s**: %s.\n", c.Kind, c.What)
	}
	b.WriteString(`
Subscribers are the proxies whose configuration it changes. Times run from the
write to the API server: until a subscriber uses the new configuration, until its
acknowledgement has come, and until every proxy, subscriber or not, counts as up to
date. CPU is all that the control plane's process used, garbage collection
included; bytes are all that it sent to proxies, TLS included.
`)
	fmt.Fprintf(&b, "\n%d configurations were compared at the end with what the objects compile to, built\nfrom scratch; all were equal.\n", r.Checked)
	return b.String()
}
