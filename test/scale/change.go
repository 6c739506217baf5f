package main

import (
	"cmp"
	"slices"

	"golang.org/x/sync/errgroup"
	securityapi "istio.io/api/security/v1beta1"
	security "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
)

// applier makes changes to a city through an API server.
type applier struct {
	*city
	api      cluster
	called   []*service // by some proxy
	members  map[string]bool
	policies int64 // written so far
	written  *security.PeerAuthentication
}

// kind of change. apply makes one, and says what a World with it is like.
type kind struct {
	name  string
	what  string
	apply func() (Want, error)
}

func (a *applier) kinds() []kind {
	return []kind{
		{"endpoint", "a pod is ready no more, or again", a.endpoint()},
		{"pod", "a pod is deleted and another comes, with another address", a.pod1},
		{"policy", "a PeerAuthentication of one Deployment is written", a.policy},
		{"rollout", "all pods of the largest Deployment are replaced, each as soon as the one before", a.roll},
	}
}

// load applies all of the city.
func (a *applier) load() error {
	for _, ns := range a.namespaces() {
		if err := a.api.put("namespaces", namespaceObject(ns)); err != nil {
			return err
		}
		if err := a.api.put("peerauthentications", peerAuthentication(ns, "default", "", securityapi.PeerAuthentication_MutualTLS_STRICT, 1)); err != nil {
			return err
		}
	}
	var g errgroup.Group
	g.SetLimit(16)
	for _, s := range a.services {
		g.Go(func() error {
			o := s.object()
			if err := a.api.put("services", o); err != nil {
				return err
			}
			s.address = o.Spec.ClusterIP
			for _, pod := range s.pods {
				if err := a.api.put("pods", pod); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	if mine, ok := a.api.(*apiServer); ok {
		mine.forget()
	}
	return err
}

// call notes who the proxies are and what they talk to.
func (a *applier) call(members []member) {
	a.members = map[string]bool{}
	seen := map[int]bool{}
	for _, m := range members {
		a.members[m.Node] = true
		for _, n := range m.Calls {
			if !seen[n] {
				seen[n] = true
				a.called = append(a.called, a.services[n])
			}
		}
	}
	slices.SortFunc(a.called, func(x, y *service) int { return cmp.Compare(x.number, y.number) })
}

// endpoint turns one pod's readiness off, and with the next change on again.
func (a *applier) endpoint() func() (Want, error) {
	var off *corev1.Pod
	return func() (Want, error) {
		if off != nil {
			pod := off
			off = nil
			return Want{Ready: []string{key(pod)}}, a.readiness(pod, corev1.ConditionTrue)
		}
		s := a.called[a.rand.IntN(len(a.called))]
		off = s.pods[a.rand.IntN(len(s.pods))]
		return Want{NotReady: []string{key(off)}}, a.readiness(off, corev1.ConditionFalse)
	}
}

func (a *applier) readiness(pod *corev1.Pod, is corev1.ConditionStatus) error {
	pod.Status.Conditions[0].Status = is
	return a.api.put("pods", pod)
}

// pod1 replaces one pod.
func (a *applier) pod1() (Want, error) {
	for {
		s := a.called[a.rand.IntN(len(a.called))]
		i := a.rand.IntN(len(s.pods))
		if !a.members[key(s.pods[i])] {
			var w Want
			return w, a.replace(s, i, &w)
		}
	}
}

// roll replaces the pods of the largest Deployment, but for those whose proxies
// are connected.
func (a *applier) roll() (Want, error) {
	s := slices.MaxFunc(a.called, func(x, y *service) int { return cmp.Compare(len(x.pods), len(y.pods)) })
	s.rollout++
	var w Want
	for i := range s.pods {
		if a.members[key(s.pods[i])] {
			continue
		}
		if err := a.replace(s, i, &w); err != nil {
			return w, err
		}
	}
	return w, nil
}

func (a *applier) replace(s *service, i int, w *Want) error {
	old := s.pods[i]
	s.pods[i] = a.city.pod(s)
	w.Gone, w.Ready = append(w.Gone, key(old)), append(w.Ready, key(s.pods[i]))
	if err := a.api.put("pods", s.pods[i]); err != nil {
		return err
	}
	return a.api.remove("pods", old)
}

// policy of one Deployment: plaintext, and with the next change either.
func (a *applier) policy() (Want, error) {
	s := a.called[int(a.policies/2)%len(a.called)]
	a.policies++
	if a.policies%2 == 1 {
		a.written = peerAuthentication(s.namespace, "scale-"+s.name, s.name, securityapi.PeerAuthentication_MutualTLS_DISABLE, 1)
	} else {
		a.written.Spec.Mtls.Mode = securityapi.PeerAuthentication_MutualTLS_PERMISSIVE
		a.written.Generation = 2 // as an API server counts
	}
	err := a.api.put("peerauthentications", a.written)
	return Want{PeerAuthentication: a.written.Namespace + "/" + a.written.Name, Generation: a.written.Generation}, err
}

func key(p *corev1.Pod) string { return p.Namespace + "/" + p.Name }
