package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"hasp/ca"
)

// renewCheck is how often the leader looks whether the intermediate is due.
const renewCheck = time.Minute

// authority is a CA whose files are in a Secret, in memory here and never on
// disk. All replicas follow the Secret; only the leader renews it.
type authority struct {
	client kubernetes.Interface
	given  string // the Secret that wins when it is there; empty looks for none
	own    string // the Secret that is made when there is no other
	cfg    ca.Config
	log    *slog.Logger
	event  func(ctx context.Context, about corev1.ObjectReference, reason, message string)

	ca *ca.CA // set by open

	mu      sync.Mutex
	from    string // the Secret in use
	files   ca.Files
	refused string // version of the Secret that was last refused
	changed chan struct{}

	gone chan struct{} // the Secret in use was deleted
}

// open reads the authority, or makes one. When several replicas make one at
// once, the API server takes the first and the others read it.
func (a *authority) open(ctx context.Context) error {
	s, err := a.find(ctx)
	if err != nil {
		return err
	}
	files := filesOf(s)
	if a.ca, err = ca.Open(a.cfg, files); err != nil && s.Name == a.own {
		// It may have ended while nothing ran that renews it.
		if s, err = a.complete(ctx, s); err == nil {
			files = filesOf(s)
			a.ca, err = ca.Open(a.cfg, files)
		}
	}
	if err != nil {
		a.event(ctx, reference(s), "Refused", err.Error())
		return fmt.Errorf("the Secret %s/%s cannot be the authority: %w", Namespace, s.Name, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.from, a.files, a.changed = s.Name, files, make(chan struct{})
	a.log.Info("authority opened", slog.String("secret", Namespace+"/"+s.Name))
	return nil
}

// find is the Secret to use now: the given one, else our own, made if need be.
func (a *authority) find(ctx context.Context) (*corev1.Secret, error) {
	secrets := a.client.CoreV1().Secrets(Namespace)
	for _, name := range []string{a.given, a.own} {
		if name == "" {
			continue
		}
		s, err := secrets.Get(ctx, name, metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			return s, err
		}
	}
	files, _, err := ca.Complete(a.cfg, nil)
	if err != nil {
		return nil, err
	}
	s, err := secrets.Create(ctx, newSecret(a.own, files), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return secrets.Get(ctx, a.own, metav1.GetOptions{})
	}
	if err != nil {
		return nil, fmt.Errorf("create the authority's Secret: %w", err)
	}
	a.log.Info("authority created", slog.String("secret", Namespace+"/"+a.own))
	return s, nil
}

// complete renews our own Secret if it is due. It returns the Secret as it is
// then, also when another replica was faster.
func (a *authority) complete(ctx context.Context, s *corev1.Secret) (*corev1.Secret, error) {
	files, changed, err := ca.Complete(a.cfg, filesOf(s))
	if err != nil || !changed {
		return s, err
	}
	next := s.DeepCopy()
	next.Data = files
	secrets := a.client.CoreV1().Secrets(Namespace)
	got, err := secrets.Update(ctx, next, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) {
		return secrets.Get(ctx, s.Name, metav1.GetOptions{})
	}
	if err != nil {
		return s, fmt.Errorf("renew the authority's Secret: %w", err)
	}
	a.log.Info("authority renewed", slog.String("secret", Namespace+"/"+s.Name))
	return got, nil
}

// Changed is closed at the next change of the authority.
func (a *authority) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// bundle is the roots in PEM.
func (a *authority) bundle() []byte { return a.ca.Bundle() }

// inUse is the Secret that is signed with.
func (a *authority) inUse() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.from
}

// keep is the leader's duty: it renews our own Secret in time, and puts it back
// when somebody deletes it, since a new root would cut the mesh in two.
func (a *authority) keep(ctx context.Context) error {
	tick := time.NewTicker(renewCheck)
	defer tick.Stop()
	for {
		if err := a.renew(ctx); err != nil && ctx.Err() == nil {
			a.log.Error("authority not kept", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-a.gone:
		}
	}
}

func (a *authority) renew(ctx context.Context) error {
	a.mu.Lock()
	from, files := a.from, a.files
	a.mu.Unlock()
	if from != a.own {
		return nil // the user's, to renew and to delete
	}
	secrets := a.client.CoreV1().Secrets(Namespace)
	s, err := secrets.Get(ctx, a.own, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = secrets.Create(ctx, newSecret(a.own, files), metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	_, err = a.complete(ctx, s) // all replicas take it over from the watch
	return err
}
