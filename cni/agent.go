package cni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
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
	pods, podWatch := watchPods(c.Client, c.Node)
	gone, ownWatch := watchOwn(c.Client, c.DaemonSet)

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

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.serve(ctx, l) })
	for _, f := range []informers.SharedInformerFactory{podWatch, ownWatch} {
		f.StartWithContext(ctx)
		defer f.Shutdown() // waits
	}
	g.Go(func() error {
		podWatch.WaitForCacheSyncWithContext(ctx)
		return c.Install.keep(ctx, c.Log, func(err error) {
			why := ""
			if err != nil {
				why = err.Error()
			}
			installed.Store(&why)
		})
	})
	err = g.Wait()
	if gone() {
		c.Log.Info("the DaemonSet is gone: the plugin goes too", slog.String("daemonset", c.DaemonSet.String()))
		return errors.Join(err, c.Install.Remove())
	}
	return err
}

// watchOwn watches one DaemonSet. gone reports whether it was deleted, or is
// being; while that is not known it reports false.
func watchOwn(client kubernetes.Interface, name types.NamespacedName) (gone func() bool, _ informers.SharedInformerFactory) {
	f := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithNamespace(name.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name.Name).String()
		}))
	own := f.Apps().V1().DaemonSets()
	lister, synced := own.Lister().DaemonSets(name.Namespace), own.Informer().HasSynced
	return func() bool {
		if !synced() {
			return false
		}
		ds, err := lister.Get(name.Name)
		return err != nil || ds.DeletionTimestamp != nil
	}, f
}

// ParseDaemonSet reads NAMESPACE/NAME.
func ParseDaemonSet(s string) (types.NamespacedName, error) {
	namespace, name, _ := strings.Cut(s, "/")
	if namespace == "" || name == "" || strings.Contains(name, "/") {
		return types.NamespacedName{}, fmt.Errorf("daemonset %q: write NAMESPACE/NAME", s)
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, nil
}
