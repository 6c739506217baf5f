package lab

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hasp/test/document"
	"hasp/test/meshtest"
)

// changes are commands after which a person looks up before the next: by then
// every proxy has what changed.
var changes = regexp.MustCompile(`\boc (apply|delete (policy|dr))\b`)

// TestTutorial types what docs/lab.md says, as an ordinary user in the demo's
// directory, and compares what comes with what the document shows.
func TestTutorial(t *testing.T) {
	meshtest.Need(t, "sh", "sed", "curl")
	doc, err := os.ReadFile(filepath.Join(meshtest.Root(), "docs", "lab.md"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := document.Commands(string(doc))
	if err != nil {
		t.Fatalf("docs/lab.md: %v", err)
	}
	if len(list) < 10 {
		t.Fatalf("docs/lab.md has %d commands; the lab has more", len(list))
	}
	m := meshtest.New(t, meshtest.Ordinary())
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := m.Cmd(ctx, "sh")
	cmd.Dir = m.Demo()
	sh, err := document.Open(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer sh.Close()
	for _, c := range list {
		var got string
		run := func() { got, _, err = sh.Run(c.Text) }
		if changes.MatchString(c.Text) {
			m.Change(t, run) // a person is slower than the mesh
		} else {
			run()
		}
		if err != nil {
			t.Fatalf("docs/lab.md:%d: %s: %v\n%s", c.Line, c.Text, err, got)
		}
		if !c.Shows(got) {
			t.Fatalf("docs/lab.md:%d: $ %s\nprinted\n%s\nand not\n%s", c.Line, c.Text, got, strings.Join(c.Want, "\n"))
		}
	}
}
