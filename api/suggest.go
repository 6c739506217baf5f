package api

import (
	"slices"
	"strings"
)

// suggest is the one of names that word was probably meant to be, or "".
func suggest(word string, names []string) string {
	return nearest(word, names, len(word)/3+1)
}

// nearest is the name at most so many edits away from word, or "". Case, dashes
// and underscores do not count.
func nearest(word string, names []string, distance int) string {
	best := ""
	for _, n := range slices.Sorted(slices.Values(names)) {
		if fold(n) == fold(word) {
			return n
		}
		if d := editDistance(strings.ToLower(word), strings.ToLower(n)); d <= distance && (best == "" || d < distance) {
			best, distance = n, d
		}
	}
	return best
}

// fold makes cert_file, certFile and CertFile the same word.
func fold(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
}

// maxWord bounds what editDistance looks at; no field name is longer.
const maxWord = 64

// editDistance counts the insertions, deletions, substitutions and swaps of
// neighbours between two words (optimal string alignment).
func editDistance(a, b string) int {
	if len(a) > maxWord || len(b) > maxWord {
		return maxWord
	}
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// unknownField says that a field does not exist and what to write instead.
func unknownField(word string, known []string) string {
	s := `unknown field "` + word + `"`
	if near := suggest(word, known); near != "" {
		return s + `; did you mean "` + near + `"?`
	}
	const readable = 12 // more names than that help nobody
	if len(known) > 0 && len(known) <= readable {
		return s + "; known fields are " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
	}
	return s + "; remove it"
}
