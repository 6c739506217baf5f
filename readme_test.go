package hasp_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hasp/api"
)

// documents are what the tests of this file read: the pages at the root and all
// of docs.
func documents(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir("docs", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			docs = append(docs, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) < 5 {
		t.Fatalf("only %d documents were found: %v", len(docs), docs)
	}
	return docs
}

// fenced is one block of a Markdown document.
type fenced struct {
	line     int // of its first line
	language string
	text     string
}

// blocks are a document's fenced blocks, and prose is what is left of it.
func blocks(doc string) (found []fenced, prose string, err error) {
	var rest strings.Builder
	var open *fenced
	for n, line := range strings.SplitAfter(doc, "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open == nil:
			open = &fenced{line: n + 2, language: fence}
		case isFence:
			found = append(found, *open)
			open = nil
		case open != nil:
			open.text += line
		default:
			rest.WriteString(line)
		}
	}
	if open != nil {
		return nil, "", fmt.Errorf("the block of line %d has no end", open.line)
	}
	return found, rest.String(), nil
}

// TestDocumentedObjects decodes and validates every ```yaml block of the
// documents, as an apply would. What is no Kubernetes object is fenced as
// something else.
func TestDocumentedObjects(t *testing.T) {
	seen := 0
	for _, name := range documents(t) {
		list, _, err := readBlocks(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, b := range list {
			if b.language != "yaml" {
				continue
			}
			seen++
			if err := validObjects(b.text); err != nil {
				t.Errorf("%s:%d: %v", name, b.line, err)
			}
		}
	}
	if seen == 0 {
		t.Error("no yaml block was found in any document")
	}
}

func validObjects(text string) error {
	objects, err := api.Decode("", []byte(text))
	if err != nil {
		return err
	}
	if len(objects) == 0 {
		return fmt.Errorf("no object in it")
	}
	for _, o := range objects {
		if errs := api.Validate(o); len(errs) > 0 {
			return errs.ToAggregate()
		}
	}
	return nil
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	symbols = regexp.MustCompile("[^a-z0-9 _-]")
)

// TestDocumentedLinks follows every relative link, its heading included.
func TestDocumentedLinks(t *testing.T) {
	seen := 0
	for _, name := range documents(t) {
		_, prose, err := readBlocks(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, m := range link.FindAllStringSubmatch(prose, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			seen++
			if err := resolves(name, m[1]); err != nil {
				t.Errorf("%s: the link %s: %v", name, m[1], err)
			}
		}
	}
	if seen == 0 {
		t.Error("no relative link was found in any document")
	}
}

func resolves(from, target string) error {
	path, anchor, _ := strings.Cut(target, "#")
	file := from
	if path != "" {
		file = filepath.Join(filepath.Dir(from), path)
	}
	if _, err := os.Stat(file); err != nil {
		return err
	}
	if anchor == "" {
		return nil
	}
	_, prose, err := readBlocks(file)
	if err != nil {
		return err
	}
	for _, m := range heading.FindAllStringSubmatch(prose, -1) {
		slug := symbols.ReplaceAllString(strings.ToLower(m[1]), "")
		if strings.ReplaceAll(slug, " ", "-") == anchor {
			return nil
		}
	}
	return fmt.Errorf("%s has no such heading", file)
}

func readBlocks(name string) ([]fenced, string, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, "", err
	}
	return blocks(string(b))
}

// golden names a case in the policy reference: words joined by hyphens.
var golden = regexp.MustCompile("`((?:access|check|lab|peer|policy|rule)-[a-z0-9-]+)`")

// TestPolicyReference holds the reference and the golden cases together: each
// case that it names exists, and none is left out.
func TestPolicyReference(t *testing.T) {
	doc, err := os.ReadFile("docs/policy-reference.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, m := range golden.FindAllStringSubmatch(string(doc), -1) {
		named[m[1]] = true
	}
	files, err := filepath.Glob("policy/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden cases: %v", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".txtar")
		if !named[name] {
			t.Errorf("docs/policy-reference.md does not name the golden case %s", name)
		}
		delete(named, name)
	}
	for name := range named {
		t.Errorf("docs/policy-reference.md names %s, which is no golden case", name)
	}
}

// TestDocumentsCanFail shows the checks above what they must refuse.
func TestDocumentsCanFail(t *testing.T) {
	for text, want := range map[string]string{
		"": "no object in it",
		"apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: {mode: STRIKT}}\n": "STRIKT",
		"program: [redis-server]\n": "kind",
	} {
		if err := validObjects(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want something about %q", text, err, want)
		}
	}
	for target, ok := range map[string]bool{
		"README.md": true, "README.md#hasp": true, "nowhere.md": false, "README.md#nowhere": false,
	} {
		if err := resolves("README.md", target); (err == nil) != ok {
			t.Errorf("%s: %v", target, err)
		}
	}
	if _, _, err := blocks("```yaml\na: b\n"); err == nil || err.Error() != "the block of line 2 has no end" {
		t.Errorf("a block without an end: %v", err)
	}
}
