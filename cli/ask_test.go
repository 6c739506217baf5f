package cli

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/spf13/cobra"

	"hasp/source"
	"hasp/truth"
	"hasp/world"
)

var update = flag.Bool("update", false, "rewrite the output in testdata/*.txtar")

// TestAsk runs the commands of testdata/*.txtar. A case is a sentence, the
// manifests of in.yaml, and commands with what they print; "error:" stands
// before the message of one that fails.
func TestAsk(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(ar.Files) != 2 || ar.Files[0].Name != "in.yaml" || ar.Files[1].Name != "commands" {
				t.Fatalf("%s: want the sections in.yaml and commands", file)
			}
			in := filepath.Join(t.TempDir(), "in.yaml")
			if err := os.WriteFile(in, ar.Files[0].Data, 0o600); err != nil {
				t.Fatal(err)
			}
			want := string(ar.Files[1].Data)
			var got strings.Builder
			for line := range strings.Lines(want) {
				if args, ok := strings.CutPrefix(line, "$ hasp "); ok {
					got.WriteString(line)
					runCommand(&got, append(strings.Fields(args), "-f", in))
				}
			}
			if *update && got.String() != want {
				ar.Files[1].Data = []byte(got.String())
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got.String()); diff != "" {
				t.Errorf("%s(-want +got)\n%s", ar.Comment, diff)
			}
		})
	}
}

func runCommand(out *strings.Builder, args []string) {
	root := &cobra.Command{Use: "hasp", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(newAuthnCmd(loadManifests, noFacts, "shop"), newExplainCmd(loadManifests, "shop"))
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(out)
	if err := root.Execute(); err != nil {
		fmt.Fprintf(out, "error: %v\n", err)
	}
}

func loadManifests(_ context.Context, q *question) (*world.World, error) {
	w, problems, err := source.FromFiles(nil, q.namespace, q.files...)
	if len(problems) > 0 {
		return nil, fmt.Errorf("%s", problems[0])
	}
	return w, err
}

func noFacts(context.Context, *question) (*truth.Facts, error) { return nil, nil }
