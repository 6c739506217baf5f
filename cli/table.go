package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// column of a table.
type column struct {
	title string
	// least is how many characters its cells may be shortened to, in the middle,
	// on a terminal that is too narrow; 0 leaves them whole.
	least int
}

// table is rows that fit a terminal.
type table struct {
	columns []column
	rows    []tableRow
}

type tableRow struct {
	cells []string
	// loud rows stand out on a terminal.
	loud bool
}

func (t *table) add(loud bool, cells ...string) {
	// What a proxy reports may be the words of a stranger.
	for i := range cells {
		cells[i] = printable(cells[i])
	}
	t.rows = append(t.rows, tableRow{cells, loud})
}

// printable has no control character, which could move a terminal's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

const gap = "   "

// lines are the title and the rows, in at most width characters where that can
// be had; 0 is a width without end. The last column is never padded.
func (t *table) lines(width int) []string {
	return t.linesIn(t.widths(width))
}

// linesIn columns of these widths.
func (t *table) linesIn(widths []int) []string {
	var titles []string
	for _, c := range t.columns {
		titles = append(titles, c.title)
	}
	out := []string{t.line(titles, widths)}
	for _, r := range t.rows {
		out = append(out, t.line(r.cells, widths))
	}
	return out
}

func (t *table) widths(width int) []int {
	widths := make([]int, len(t.columns))
	for i, c := range t.columns {
		widths[i] = utf8.RuneCountInString(c.title)
		for _, r := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(r.cells[i]))
		}
	}
	if width <= 0 {
		return widths
	}
	// The widest gives way first, a character at a time; the last column, which
	// is prose, only wraps and does not count.
	for {
		total, widest := 0, -1
		for i, c := range t.columns[:len(t.columns)-1] {
			total += widths[i] + len(gap)
			if c.least > 0 && widths[i] > max(c.least, utf8.RuneCountInString(c.title)) && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if total+min(widths[len(widths)-1], width/5) <= width || widest < 0 {
			return widths
		}
		widths[widest]--
	}
}

func (t *table) line(cells []string, widths []int) string {
	var b strings.Builder
	for i, cell := range cells {
		if i == len(cells)-1 {
			b.WriteString(cell)
			break
		}
		cell = shorten(cell, widths[i])
		b.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)) + gap)
	}
	return strings.TrimRight(b.String(), " ")
}

// shorten in the middle: both ends of a name tell it from others.
func shorten(s string, width int) string {
	runes := []rune(s)
	if len(runes) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	head := width / 2
	return string(runes[:head]) + "…" + string(runes[len(runes)-(width-1-head):])
}

// write the table; on a terminal loud rows are in colour.
func (t *table) write(out io.Writer, width int, colour bool) error {
	lines := t.lines(width)
	for i, line := range lines {
		if colour && i > 0 && t.rows[i-1].loud {
			line = loud(line)
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

// loud is bold and yellow.
func loud(line string) string { return "\x1b[1;33m" + line + "\x1b[0m" }

// colour reports whether Out may be written to in colour.
func (e *env) colour() bool {
	return e.Terminal && !slices.ContainsFunc(e.Environ, func(v string) bool { return strings.HasPrefix(v, "NO_COLOR=") && v != "NO_COLOR=" })
}

// size of the terminal; 0 when Out is none.
func (e *env) size() (columns, lines int) {
	if !e.Terminal || e.Size == nil {
		return 0, 0
	}
	return e.Size()
}
