package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// Times of the lease, those of Kubernetes' own controllers.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// duty is what only the leader does. It returns when ctx ends, and an error only
// when it can never work.
type duty func(ctx context.Context) error

// lead takes part in the election until ctx ends, and does the duties while
// this replica is the leader. The lease is given up only after they ended, so
// that no two replicas ever do them.
func (p *plane) lead(ctx context.Context, duties ...duty) error {
	for ctx.Err() == nil {
		if err := p.candidacy(ctx, duties); err != nil {
			return err
		}
	}
	return nil
}

// candidacy is one term: from waiting for the lease to having lost it.
func (p *plane) candidacy(ctx context.Context, duties []duty) error {
	logged := klog.NewContext(context.WithoutCancel(ctx), logr.FromSlogHandler(p.cfg.Log.Handler()))
	electing, resign := context.WithCancel(logged)
	defer resign()
	done := make(chan error, 1) // what the duties came to
	lock := &termLock{LeaseLock: resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: Namespace, Name: Lease},
		Client:     p.client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: p.cfg.Pod},
	}}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: Lease, ReleaseOnCancel: true,
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(term context.Context) {
				term, end := context.WithCancel(term)
				defer end()
				stop := context.AfterFunc(ctx, end)
				defer stop()
				done <- perform(term, duties)
				resign()
			},
			OnStoppedLeading: func() {},
			OnNewLeader:      func(id string) { p.leader.Store(&id) },
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	// Whoever waits for the lease leaves the election at once; the leader when
	// its duties ended.
	stop := context.AfterFunc(ctx, func() {
		if !elector.IsLeader() {
			resign()
		}
	})
	defer stop()
	elector.Run(electing)
	if !lock.acquired {
		return nil
	}
	p.leader.Store(nil)
	return <-done
}

// termLock notes that the lease was acquired, and so that the duties were
// started: the elector starts them in a goroutine that it does not wait for.
type termLock struct {
	resourcelock.LeaseLock
	acquired bool
}

// RecordEvent is called by the elector's Run when it became the leader, and when
// it stopped being it.
func (l *termLock) RecordEvent(string) { l.acquired = true }

// perform all duties until ctx ends.
func perform(ctx context.Context, duties []duty) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range duties {
		g.Go(func() error { return d(ctx) })
	}
	return g.Wait()
}

// leads reports whether this replica is the leader, as far as it knows.
func (p *plane) leads() bool {
	id := p.leader.Load()
	return id != nil && *id == p.cfg.Pod
}
