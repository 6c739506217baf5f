// Package document types what a document shows and compares what comes: its
// console blocks are commands of one session and their outputs.
//
//	list, err := document.Commands(text)
//	sh, err := document.Open(exec.Command("sh"))
//	for _, c := range list {
//		got, _, err := sh.Run(c.Text)
//		... c.Shows(got) ...
//	}
package document

import (
	"fmt"
	"strings"
)

// Command of a document.
type Command struct {
	Line int // in the document
	Text string
	Want []string // lines of output
}

// Commands finds those of a Markdown document: in blocks that begin with
// ```console, a line after "$ " is typed, one after "> " continues it, and what
// follows up to the next is its output.
func Commands(doc string) ([]Command, error) {
	var out []Command
	begin := 0 // line of the block's fence
	for n, line := range strings.Split(doc, "\n") {
		n++
		switch {
		case begin == 0 && line == "```console":
			begin = n
		case begin == 0:
		case line == "```":
			begin = 0
		case strings.HasPrefix(line, "$ "):
			out = append(out, Command{Line: n, Text: line[2:]})
		case len(out) == 0 || out[len(out)-1].Line < begin:
			return nil, fmt.Errorf("line %d: a console block begins with a command", n)
		case strings.HasPrefix(line, "> ") && len(out[len(out)-1].Want) == 0:
			out[len(out)-1].Text += "\n" + line[2:]
		default:
			c := &out[len(out)-1]
			c.Want = append(c.Want, line)
		}
	}
	if begin > 0 {
		return nil, fmt.Errorf("line %d: the block has no end", begin)
	}
	return out, nil
}

// Shows reports whether output is what the document shows. A line "..." there
// stands for any lines, and three dots within a line for any text. Space at the
// end of a line, and how much of it there is between words, does not matter.
func (c Command) Shows(output string) bool { return matches(c.Want, lines(output)) }

func matches(want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if strings.TrimSpace(want[0]) == "..." {
		for skip := range len(got) + 1 {
			if matches(want[1:], got[skip:]) {
				return true
			}
		}
		return false
	}
	return len(got) > 0 && matchLine(words(want[0]), words(got[0])) && matches(want[1:], got[1:])
}

func words(s string) string { return strings.Join(strings.Fields(s), " ") }

func matchLine(want, got string) bool {
	parts := strings.Split(want, "...")
	first, rest := parts[0], parts[1:]
	if len(rest) == 0 {
		return want == got
	}
	got, ok := strings.CutPrefix(got, first)
	if !ok {
		return false
	}
	last := rest[len(rest)-1]
	for _, part := range rest[:len(rest)-1] {
		_, after, ok := strings.Cut(got, part)
		if !ok {
			return false
		}
		got = after
	}
	return strings.HasSuffix(got, last)
}

// lines of output, without the empty ones at its end.
func lines(s string) []string {
	s = strings.TrimRight(s, "\n")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}
