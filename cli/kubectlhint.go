package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hasp/api"
	"hasp/source"
)

// An API server names the field of a bad object, not the file, the line, or what
// was probably meant. Where kubectl has failed with manifests, what we find in
// them is said after it.

// writes are the verbs whose manifests are looked at.
var writes = []string{"apply", "create", "replace", "diff"}

// writing is the verb of a command line, nil when it is none of writes.
func writing(c *cobra.Command, args []string) *cobra.Command {
	verb, _, err := c.Find(args)
	if err != nil || verb.Parent() != c || !slices.Contains(writes, verb.Name()) {
		return nil
	}
	return verb
}

// manifestsOf are the files that a verb was given.
func manifestsOf(verb *cobra.Command) []string {
	files, err := verb.Flags().GetStringSlice("filename")
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(files, func(f string) bool { return strings.Contains(f, "://") })
}

// hint what is wrong with a verb's manifests. What cannot be read, kubectl has
// said.
func hint(out io.Writer, stdin []byte, verb *cobra.Command) {
	files, err := source.ReadFiles(bytes.NewReader(stdin), manifestsOf(verb)...)
	if err != nil {
		return
	}
	var errs []error
	for _, f := range files {
		objects, err := api.Decode(f.Name, f.Data)
		errs = append(errs, err, source.Validate(objects))
	}
	if err := errors.Join(errs...); err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintln(out, printable(strings.TrimSuffix(line, "\n")))
		}
	}
}

// plainly is what kubectl says, without the object that an API server repeats in
// the middle when a field of a patched one is unknown.
func plainly(msg string) string {
	const before, after = `patch: Invalid value: "`, `": strict decoding error: `
	from, to := strings.Index(msg, before), strings.LastIndex(msg, after)
	if from < 0 || to < from {
		return msg
	}
	return msg[:from+len("patch: ")] + msg[to+len(`": `):]
}

// remembered lets kubectl read the process's standard input, which is read only
// once, when one of the arguments stands for it. The caller calls back when
// kubectl is done.
func remembered(args []string) (stdin []byte, back func()) {
	none := func() {}
	if !slices.ContainsFunc(args, func(a string) bool { return a == "-" || a == "-f-" || strings.HasSuffix(a, "=-") }) {
		return nil, none
	}
	if info, err := os.Stdin.Stat(); err != nil || info.Mode()&os.ModeCharDevice != 0 {
		return nil, none // somebody types it
	}
	was := os.Stdin
	data, err := io.ReadAll(io.LimitReader(was, api.MaxBytes))
	if err != nil {
		return nil, none
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, none
	}
	go func() {
		defer w.Close()
		_, _ = io.Copy(w, io.MultiReader(bytes.NewReader(data), was)) // kubectl may not want all of it
	}()
	os.Stdin = r
	return data, func() {
		os.Stdin = was
		r.Close()
	}
}
