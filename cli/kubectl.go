package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	basecli "k8s.io/component-base/cli"
	"k8s.io/component-base/version"
	"k8s.io/kubectl/pkg/cmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// Kubectl is kubectl's own code, called by the name oc or kubectl with the
// arguments that follow it, and the four verbs of oc about projects. It
// returns the exit status.
//
// kubeconfig is the mesh's; a --kubeconfig among the arguments wins over it.
// When it is empty kubectl looks where it always does (KUBECONFIG, ~/.kube).
//
// Manifests of "-f -" come from the process's own standard input, whatever in
// is: that is kubectl's doing.
//
// kubectl ends its process where it fails. Here it ends this call instead; two
// calls at the same time wait for each other, since that is a global of its.
func Kubectl(ctx context.Context, name, kubeconfig string, args []string, in io.Reader, out, errOut io.Writer) (status int) {
	oneKubectl.Lock()
	defer oneKubectl.Unlock()
	cmdutil.BehaviorOnFatal(func(msg string, code int) {
		if msg != "" {
			fmt.Fprintln(errOut, plainly(strings.TrimSuffix(msg, "\n")))
		}
		panic(exit(code))
	})
	defer cmdutil.DefaultBehaviorOnFatal()
	stamp()
	c := kubectlCommand(name, genericiooptions.IOStreams{In: in, Out: out, ErrOut: errOut})
	if kubeconfig != "" {
		// A flag rather than a default: "config view" knows only the flag.
		args = slices.Insert(slices.Clone(args), 0, "--kubeconfig="+kubeconfig)
	}
	verb, stdin, back := writing(c, args), []byte(nil), func() {}
	if verb != nil {
		stdin, back = remembered(args)
	}
	defer func() {
		back()
		switch r := recover().(type) {
		case nil:
		case exit:
			if status = int(r); status != 0 && verb != nil {
				hint(errOut, stdin, verb)
			}
		default:
			panic(r)
		}
	}()
	c.SetArgs(args)
	c.SetContext(ctx)
	if err := basecli.RunNoErrOutput(c); err != nil {
		cmdutil.CheckErr(err)
	}
	return 0
}

// stamp gives a build without a version one that "kubectl version" can read. A
// release has its own, by the linker:
//
//	-X k8s.io/component-base/version.gitVersion=v1.37.2
func stamp() {
	if strings.Contains(version.Get().GitVersion, "$Format") {
		// It accepts only what begins like the placeholder.
		version.SetDynamicVersion("v0.0.0-unstamped")
	}
}

// exit is how kubectl's end of process travels up to Kubectl.
type exit int

var oneKubectl sync.Mutex

func kubectlCommand(name string, streams genericiooptions.IOStreams) *cobra.Command {
	flags := genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().WithDiscoveryBurst(300).WithDiscoveryQPS(50).WithWarningPrinter(streams)
	c := cmd.NewKubectlCommand(cmd.KubectlOptions{ConfigFlags: flags, IOStreams: streams})
	c.Use = name
	c.SetIn(streams.In)
	c.SetOut(streams.Out)
	c.SetErr(streams.ErrOut)
	p := &projects{config: flags, streams: streams}
	c.AddCommand(p.project(), p.list(), p.create(), p.whoami())
	return c
}
