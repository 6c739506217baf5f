package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestDocumentedCommands finds each "$ hasp ..." of the documents' console
// blocks in the tree of commands: verbs, flags and the number of arguments.
func TestDocumentedCommands(t *testing.T) {
	docs, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, doc := range append(docs, more...) {
		b, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(string(b), "\n") {
			for _, args := range haspCommands(line) {
				seen++
				if err := known(args); err != nil {
					t.Errorf("%s:%d: hasp %s: %v", doc, n+1, strings.Join(args, " "), err)
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d commands were found", seen)
	}
}

// between splits a shell's line into its commands; it need not know quotes,
// since no documented argument of ours has these.
var between = regexp.MustCompile(`\s*(?:&&|\|\||[|;]|\$\()\s*`)

// haspCommands are the arguments of each hasp of a line that is typed.
func haspCommands(line string) [][]string {
	typed, ok := strings.CutPrefix(line, "$ ")
	if !ok {
		return nil
	}
	var out [][]string
	for _, command := range between.Split(typed, -1) {
		if args := strings.Fields(command); len(args) > 0 && args[0] == "hasp" {
			out = append(out, args[1:])
		}
	}
	return out
}

// known says what is wrong with a command line, without running it.
func known(args []string) error {
	root := newRoot(&env{Config: Config{Executable: "/bin/hasp", Dir: "/", Kubeconfig: "/nowhere"}})
	cmd, rest, err := root.Find(args)
	switch {
	case err != nil:
		return err
	case cmd.DisableFlagParsing: // kubectl's own affair
		return nil
	case cmd == root || !cmd.Runnable():
		return fmt.Errorf("no such command")
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

func TestUnknownCommandsAreFound(t *testing.T) {
	for line, want := range map[string]string{
		"$ hasp stop":                        "no such command",
		"$ true && hasp up --no-such":        "unknown flag: --no-such",
		"$ hasp down now":                    `unknown command "now" for "hasp down"; see hasp down --help`,
		"$ x=$(hasp status -o json | sed p)": "",
	} {
		list := haspCommands(line)
		if len(list) != 1 {
			t.Errorf("%s: %d commands", line, len(list))
			continue
		}
		got := ""
		if err := known(list[0]); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

// TestEveryCommandIsDocumented: what no page mentions nobody finds.
func TestEveryCommandIsDocumented(t *testing.T) {
	var pages strings.Builder
	for _, glob := range []string{"../README.md", "../docs/*.md"} {
		files, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			pages.Write(b)
		}
	}
	root := newRoot(&env{Config: Config{Executable: "/bin/hasp", Dir: "/"}})
	up, _, err := root.Find([]string{"up"})
	if err != nil {
		t.Fatal(err)
	}
	up.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && !strings.Contains(pages.String(), "--"+f.Name) {
			t.Errorf("no page mentions hasp up --%s", f.Name)
		}
	})
	for _, c := range root.Commands() {
		if !c.Hidden && !builtin(c) && !strings.Contains(pages.String(), "hasp "+c.Name()) {
			t.Errorf("no page mentions hasp %s", c.Name())
		}
	}
}

// builtin are cobra's own.
func builtin(c *cobra.Command) bool { return c.Name() == "help" || c.Name() == "completion" }
