package document

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCommands(t *testing.T) {
	doc := "# Title\n\n```sh\n$ not run\n```\n```console\n$ one \\\n> more\nout\n\n> quoted\n$ two\n```\ntext\n```console\n$ three\n```\n"
	got, err := Commands(doc)
	if err != nil {
		t.Fatal(err)
	}
	want := []Command{
		{7, "one \\\nmore", []string{"out", "", "> quoted"}},
		{12, "two", nil},
		{16, "three", nil},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for doc, want := range map[string]string{
		"```console\n$ a\n":                            "line 1: the block has no end",
		"```console\nout\n```\n":                       "line 2: a console block begins with a command",
		"```console\n$ a\n```\n```console\nout\n```\n": "line 5: a console block begins with a command",
	} {
		if _, err := Commands(doc); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", doc, err, want)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		want, got string
		ok        bool
	}{
		{"", "", true},
		{"", "a", false},
		{"a", "", false},
		{"a\nb", "a\nb", true},
		{"a\nb", "a\nc", false},
		{"a\nb", "a\nb\nc", false},
		{"a   b", "a b  ", true},
		{"...", "", true},
		{"...\nb", "a\na\nb", true},
		{"...\nb", "a\nb\nc", false},
		{"...\nb\n...", "a\nb\nc", true},
		{"up after ... s.", "up after 1.7 s.", true},
		{"up after ... s.", "up after 1.7 m.", false},
		{"x...y...z", "xAyBz", true},
		{"x...y...z", "xz", false},
		{"ab...ba", "aba", false},
	} {
		if got := matches(lines(c.want), lines(c.got)); got != c.ok {
			t.Errorf("%q against %q: %t, want %t", c.want, c.got, got, c.ok)
		}
	}
}
