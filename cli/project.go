package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// projects are oc's verbs about projects, which are Namespaces here: the one
// in use is that of the kubeconfig's current context.
type projects struct {
	config  *genericclioptions.ConfigFlags
	streams genericiooptions.IOStreams
}

func (p *projects) project() *cobra.Command {
	return &cobra.Command{
		Use:   "project [NAME]",
		Short: "Switch to another project, or show the current one",
		Args:  cobra.MaximumNArgs(1),
		Run: func(cmd *cobra.Command, args []string) {
			if len(args) == 0 {
				cmdutil.CheckErr(p.show("Using project %q on server %q.\n"))
				return
			}
			cmdutil.CheckErr(p.change(cmd.Context(), args[0]))
		},
	}
}

func (p *projects) list() *cobra.Command {
	return &cobra.Command{
		Use:   "projects",
		Short: "Display existing projects",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { cmdutil.CheckErr(p.showAll(cmd.Context())) },
	}
}

func (p *projects) create() *cobra.Command {
	return &cobra.Command{
		Use:   "new-project NAME",
		Short: "Create a project and switch to it",
		Args:  cobra.ExactArgs(1),
		Run: func(cmd *cobra.Command, args []string) {
			cmdutil.CheckErr(p.createAndUse(cmd.Context(), args[0]))
		},
	}
}

func (p *projects) whoami() *cobra.Command {
	return &cobra.Command{
		Use:   "whoami",
		Short: "Return the name of the current user",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			c, err := p.client()
			cmdutil.CheckErr(err)
			me, err := c.AuthenticationV1().SelfSubjectReviews().Create(cmd.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
			cmdutil.CheckErr(err)
			fmt.Fprintln(p.streams.Out, me.Status.UserInfo.Username)
		},
	}
}

func (p *projects) client() (kubernetes.Interface, error) {
	cfg, err := p.config.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(cfg)
}

// current is the project in use and the server it is on.
func (p *projects) current() (name, server string, err error) {
	cfg, err := p.config.ToRESTConfig()
	if err != nil {
		return "", "", err
	}
	name, _, err = p.config.ToRawKubeConfigLoader().Namespace()
	return name, cfg.Host, err
}

func (p *projects) show(format string) error {
	name, server, err := p.current()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.streams.Out, format, name, server)
	return err
}

// change puts the name into the kubeconfig's current context.
func (p *projects) change(ctx context.Context, name string) error {
	old, server, err := p.current()
	if err != nil {
		return err
	}
	c, err := p.client()
	if err != nil {
		return err
	}
	if _, err := c.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		return p.unknown(ctx, c, name, server)
	} else if err != nil {
		return err
	}
	if old == name {
		_, err := fmt.Fprintf(p.streams.Out, "Already on project %q on server %q.\n", name, server)
		return err
	}
	return p.use(name)
}

func (p *projects) use(name string) error {
	loader := p.config.ToRawKubeConfigLoader()
	raw, err := loader.RawConfig()
	if err != nil {
		return err
	}
	current := raw.Contexts[raw.CurrentContext]
	if current == nil {
		return fmt.Errorf("the kubeconfig's current context %q does not exist", raw.CurrentContext)
	}
	current.Namespace = name
	if err := clientcmd.ModifyConfig(loader.ConfigAccess(), raw, false); err != nil {
		return fmt.Errorf("change the kubeconfig: %w", err)
	}
	cfg, err := p.config.ToRESTConfig()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.streams.Out, "Now using project %q on server %q.\n", name, cfg.Host)
	return err
}

// unknown is oc's answer to a project that does not exist: it names the others.
func (p *projects) unknown(ctx context.Context, c kubernetes.Interface, name, server string) error {
	msg := fmt.Sprintf("A project named %q does not exist on %q.", name, server)
	if l, err := c.CoreV1().Namespaces().List(ctx, metav1.ListOptions{}); err == nil {
		msg += "\nYour projects are:"
		for _, n := range l.Items {
			msg += "\n* " + n.Name
		}
	}
	return errors.New(msg)
}

func (p *projects) showAll(ctx context.Context) error {
	name, server, err := p.current()
	if err != nil {
		return err
	}
	c, err := p.client()
	if err != nil {
		return err
	}
	l, err := c.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var out strings.Builder
	out.WriteString("You have access to the following projects and can switch between them with ' project <projectname>':\n\n")
	for _, n := range l.Items {
		mark := "   "
		if n.Name == name {
			mark = "  *"
		}
		fmt.Fprintf(&out, "%s %s\n", mark, n.Name)
	}
	fmt.Fprintf(&out, "\nUsing project %q on server %q.\n", name, server)
	_, err = fmt.Fprint(p.streams.Out, out.String())
	return err
}

func (p *projects) createAndUse(ctx context.Context, name string) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	if _, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	return p.use(name)
}
