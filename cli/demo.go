package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hasp/local"
)

func newDemo(e *env) *cobra.Command {
	var f upFlags
	var exit bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Walk the mutual TLS lab on a mesh of its own",
		Long: `Start a fresh mesh with the shared-boards app and walk the lab: a rogue reads the
items in plaintext, Policy and DestinationRule are applied, the app works as
before, the rogue is reset. Each command is printed as it would be typed, with
its real output; one that ends otherwise than the lab says ends the demo with
exit status 1. On a terminal the mesh then stays up until Ctrl-C.

The mesh keeps its state in a directory of its own, which is removed at the end,
unless --state-dir names one.`,
		Example: `  hasp demo
  hasp demo --exit     stop after the walk`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kept := cmd.Flags().Changed("state-dir")
			return demo(cmd.Context(), e, &f, exit || !e.Terminal, kept)
		},
	}
	f.register(e, cmd)
	cmd.Flags().BoolVar(&exit, "exit", false, "end after the walk even on a terminal")
	return cmd
}

func demo(ctx context.Context, e *env, f *upFlags, exit, kept bool) (err error) {
	if f.app == "none" {
		return usageError{fmt.Errorf("the demo needs its app: give the directory of its manifests with --app")}
	}
	if !kept {
		dir, err := os.MkdirTemp("", "hasp-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		e.state = dir
	}
	o, err := f.options(e)
	if err != nil {
		return err
	}
	names, err := os.MkdirTemp("", "hasp-bin-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(names)
	for _, name := range []string{"oc", "kubectl", "hasp"} {
		if err := os.Symlink(e.Executable, filepath.Join(names, name)); err != nil {
			return err
		}
	}

	p := newProgress(e.Err, e.Terminal)
	start := time.Now()
	m, err := local.Start(ctx, o, false, e.Executable, []string{"daemon"}, p.step)
	p.done()
	if err != nil {
		return e.blame(err)
	}
	defer func() {
		if stop := local.Stop(context.WithoutCancel(ctx), o.Dir, 10*time.Second); err == nil && stop != local.ErrNotRunning {
			err = stop
		}
	}()
	fmt.Fprintf(e.Out, "The mesh and the shared-boards app are up after %.1f s.\n", time.Since(start).Seconds())
	describe(e.Out, m.State)

	w := &walker{out: e.Out, bold: boldOn(e.Terminal), dir: o.App, state: o.Dir, env: append(e.Environ,
		"PATH="+names+string(os.PathListSeparator)+lookup(e.Environ, "PATH"),
		"KUBECONFIG="+m.State.Kubeconfig, "HASP_STATE_DIR="+o.Dir, "PROJECT_NAME="+o.Project, "no_proxy=127.0.0.1")}
	if err := w.walk(ctx, lab(m.State)); err != nil {
		return err
	}
	fmt.Fprintf(e.Out, "\n%s\n", w.bold("The lab went as its document says."))
	if exit {
		return nil
	}
	invite(e.Out, m.State)
	select {
	case <-ctx.Done():
		return nil
	case <-m.Done():
		return fmt.Errorf("the mesh ended; its log is %s", local.LogPath(o.Dir))
	}
}

// lab is the document's walk, in its order, with what it says must come.
func lab(s local.State) []step {
	const items, reset = `"something goes here"`, `curl: \(56\) Recv failure: Connection reset by peer`
	rogue := func(n int) string {
		return fmt.Sprintf("oc run curl-boards-%d -i --restart=Never --image=appropriate/curl --timeout=10s -- boards:8080/shareditems", n)
	}
	const (
		policy = `sed "s|microservices-demo|$PROJECT_NAME|" ./istio-configuration/policy-mtls.yaml | oc apply -f -`
		rule   = `sed "s|microservices-demo|$PROJECT_NAME|" ./istio-configuration/destinationrule-mtls.yaml | oc apply -f -`
	)
	paste := func(text string) step {
		return step{run: "curl -sS -o /dev/null -w '%{http_code}\\n' --data-urlencode 'pastedata=" + text + "' " + s.Page + "/shared/paste", want: []string{`(?m)^30[23]$`}}
	}
	look := "curl -sS " + s.Page + "/shared | grep -o -e 'something goes here' -e 'another item'"
	works := []string{"something goes here", "another item"}
	check := "hasp authn tls-check app-ui boards." + s.Project + ".svc.cluster.local"
	first := paste("something goes here")
	first.say = "Add some items to the shared board, through the web page."
	gone := regexpNS(s.Project)
	return []step{
		first,
		paste("another item"),
		{say: "A rogue pod, without a sidecar, reads them in plaintext.", run: rogue(1), want: []string{items, `"another item"`}},
		{say: "Apply the policy: every service must be called by mutual TLS.", run: policy, want: []string{`policy\.authentication\.istio\.io/default created`}, enforced: true},
		{say: "Remove the existing destination rules, which would keep the clients in plaintext.", run: "oc delete dr --all", want: []string{`destinationrule\.networking\.istio\.io "boards" deleted` + gone}, enforced: true},
		{say: "Tell the sidecars to speak mutual TLS to each other.", run: rule, want: []string{`destinationrule\.networking\.istio\.io/destinationrule-mtls-istio-mutual created`}, enforced: true},
		{say: "The app still works.", run: look, want: works},
		{run: look, want: works},
		{say: "Which modes meet, and which objects decided?", run: check, want: []string{`OK +STRICT +ISTIO_MUTUAL +` + s.Project + `/default +` + s.Project + `/destinationrule-mtls-istio-mutual`}},
		{say: "The rogue again: it is reset.", run: rogue(2), exit: 56, want: []string{reset, `pod ` + s.Project + `/curl-boards-2 terminated \(Error\)`}, deny: []string{items}},
		{say: "Strict off again.", run: "oc delete policy/default", want: []string{`policy\.authentication\.istio\.io "default" deleted` + gone}, enforced: true},
		{run: "oc delete dr --all", want: []string{`destinationrule\.networking\.istio\.io "destinationrule-mtls-istio-mutual" deleted` + gone}, enforced: true},
		{run: rogue(3), want: []string{items}},
		{run: look, want: works},
	}
}

// regexpNS is what a newer kubectl adds to its delete lines.
func regexpNS(project string) string { return "( from " + project + " namespace)?" }

func invite(w io.Writer, s local.State) {
	fmt.Fprintf(w, `
The mesh stays up until Ctrl-C. Look at the web page and the dashboard:
  %s
  %s
or, in another terminal:
  export HASP_STATE_DIR=%s KUBECONFIG=%s
`, s.Page, s.Dashboard, s.Dir, s.Kubeconfig)
}

func boldOn(terminal bool) func(string) string {
	if !terminal {
		return func(s string) string { return s }
	}
	return func(s string) string { return "\x1b[1m" + s + "\x1b[0m" }
}

// lookup is the last value of a name in an environment.
func lookup(environ []string, name string) string {
	value := ""
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}
