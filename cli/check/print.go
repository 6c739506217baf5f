package check

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// marks of a status, and what colours them on a terminal (ANSI).
var marks = map[Status]struct{ sign, colour string }{
	OK:      {"√", "\x1b[32m"},
	Warning: {"‼", "\x1b[33m"},
	Failed:  {"×", "\x1b[31m"},
}

const plain = "\x1b[0m"

// Print writes results for a person: a mark and a line each, under headings, and
// hints where something is not well.
func Print(w io.Writer, results []Result, colours bool) error {
	var out strings.Builder
	section := ""
	for _, r := range results {
		if r.Section != section {
			if section != "" {
				out.WriteByte('\n')
			}
			section = r.Section
			fmt.Fprintf(&out, "%s\n%s\n", section, strings.Repeat("-", len(section)))
		}
		m := marks[r.Status]
		if colours {
			m.sign = m.colour + m.sign + plain
		}
		out.WriteString(m.sign + " " + r.Name)
		switch {
		case r.Detail == "":
		case r.Status == OK:
			out.WriteString(": " + r.Detail)
		default:
			out.WriteString("\n    " + r.Detail)
		}
		if r.Hint != "" {
			out.WriteString("\n    hint: " + r.Hint)
		}
		out.WriteByte('\n')
	}
	n := map[Status]int{}
	for _, r := range results {
		n[r.Status]++
	}
	fmt.Fprintf(&out, "\n%d well, %d to look at, %d failed\n", n[OK], n[Warning], n[Failed])
	_, err := io.WriteString(w, out.String())
	return err
}

// PrintJSON writes {"ok": bool, "checks": [...]}.
func PrintJSON(w io.Writer, results []Result) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(struct {
		OK     bool     `json:"ok"`
		Checks []Result `json:"checks"`
	}{Well(results), results})
}
