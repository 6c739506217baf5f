package cni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// Config is what an agent is told. All of it is needed.
type Config struct {
	Client kubernetes.Interface
	// Node whose pods it knows.
	Node string
	// Socket where it answers.
	Socket string
	// DaemonSet it is a pod of. When the agent ends and the DaemonSet is gone,
	// so goes the plugin; when it only restarts, the plugin stays, and pods wait
	// for the next agent.
	DaemonSet types.NamespacedName
	Install   Installer
	Log       *slog.Logger
}

// Run is the agent of a node. It blocks until ctx ends and everything it started
// has ended. It answers from the start, installs the plugin once it knows the
// node's pods, and keeps it installed.
func Run(ctx context.Context, c Config) error {
	l, err := listen(c.Socket)
	if err != nil {
		return err
	}
	pods, watch := watchPods(c.Client, c.Node)

	var installed atomic.Pointer[string] // why not, "" when it is
	starting := "the plugin is not installed yet"
	installed.Store(&starting)
	s := &server{find: pods.answer, log: c.Log, ready: func() error {
		switch why := *installed.Load(); {
		case !pods.synced():
			return errors.New("the node's pods are not known yet")
		case why != "":
			return errors.New(why)
		}
		return nil
	}}

	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return s.serve(running, l) })
	watch.StartWithContext(running)
	defer watch.Shutdown() // waits
	g.Go(func() error {
		watch.WaitForCacheSyncWithContext(running)
		return c.Install.keep(running, c.Log, func(err error) {
			why := ""
			if err != nil {
				why = err.Error()
			}
			installed.Store(&why)
		})
	})
	err = g.Wait()
	if ctx.Err() == nil {
		return err // it failed, and is started again
	}
	gone, why := uninstalled(context.WithoutCancel(ctx), c.Client, c.DaemonSet)
	c.Log.Info("the agent ends", slog.Bool("plugin goes too", gone), slog.String("because", why), slog.String("daemonset", c.DaemonSet.String()))
	if gone {
		return errors.Join(err, c.Install.Remove())
	}
	return err
}

// farewell bounds the question that an agent asks when it ends. It is below the
// DaemonSet's terminationGracePeriodSeconds.
const farewell = 3 * time.Second

// uninstalled reports whether the DaemonSet was deleted, or is being, and how
// that is known. The API server is asked only now: whoever ends the agent
// because the DaemonSet is gone has seen that there first. Who uninstalls
// deletes the agent's account and role a moment later, perhaps before the agent
// has asked; a restart does not. (One that was forced may have lost its token;
// then pods that start before the next agent is there fail their validation.)
// When nobody answers the plugin stays: pods wait, rather than start uncaptured.
func uninstalled(ctx context.Context, client kubernetes.Interface, name types.NamespacedName) (gone bool, why string) {
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	ds, err := client.AppsV1().DaemonSets(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return true, "the DaemonSet is gone"
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return true, "the agent's own permissions are gone: " + err.Error()
	case err != nil:
		return false, err.Error()
	case ds.DeletionTimestamp != nil:
		return true, "the DaemonSet is being deleted"
	}
	return false, "the DaemonSet is there"
}

// ParseDaemonSet reads NAMESPACE/NAME.
func ParseDaemonSet(s string) (types.NamespacedName, error) {
	namespace, name, _ := strings.Cut(s, "/")
	if namespace == "" || name == "" || strings.Contains(name, "/") {
		return types.NamespacedName{}, fmt.Errorf("daemonset %q: write NAMESPACE/NAME", s)
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, nil
}
