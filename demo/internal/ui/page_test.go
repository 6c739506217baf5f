package ui_test

import (
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// checkPage checks what every page must have: a language and a title, the
// landmarks, one heading of the first level, a label for every field, a name
// for every link and button, unique ids, and nothing in line that the content
// security policy would block. It returns the visible text on one line.
func checkPage(t *testing.T, path, source string) string {
	t.Helper()
	root, err := html.Parse(strings.NewReader(source))
	if err != nil {
		t.Fatal(err)
	}
	count, ids, labels := map[string]int{}, map[string]int{}, map[string]bool{}
	var fields []*html.Node
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		count[n.Data]++
		if id := attr(n, "id"); id != "" {
			ids[id]++
		}
		for _, a := range n.Attr {
			if a.Key == "style" || strings.HasPrefix(a.Key, "on") {
				t.Errorf("%s: <%s> has an in-line %s", path, n.Data, a.Key)
			}
		}
		switch n.Data {
		case "label":
			labels[attr(n, "for")] = true
		case "input", "textarea":
			fields = append(fields, n)
		case "a", "button":
			if textOf(n) == "" {
				t.Errorf("%s: a <%s> without words", path, n.Data)
			}
		case "script":
			if textOf(n) != "" {
				t.Errorf("%s: a script in line", path)
			}
		case "html":
			if attr(n, "lang") == "" {
				t.Errorf("%s: no language", path)
			}
		}
	}
	for _, name := range []string{"title", "header", "nav", "main", "footer", "h1"} {
		if count[name] != 1 {
			t.Errorf("%s: %d <%s>, want 1", path, count[name], name)
		}
	}
	for id, n := range ids {
		if n > 1 {
			t.Errorf("%s: id %q %d times", path, id, n)
		}
	}
	for _, f := range fields {
		if !labels[attr(f, "id")] && !inside(f, "label") {
			t.Errorf("%s: field %q has no label", path, attr(f, "name"))
		}
	}
	return textOf(root)
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func inside(n *html.Node, element string) bool {
	for p := range n.Ancestors() {
		if p.Data == element {
			return true
		}
	}
	return false
}

// textOf is the text under a node, its white space folded.
func textOf(n *html.Node) string {
	var words []string
	for c := range n.Descendants() {
		if c.Type == html.TextNode && c.Parent.Data != "title" {
			words = append(words, strings.Fields(c.Data)...)
		}
	}
	return strings.Join(words, " ")
}
