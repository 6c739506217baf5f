package sandbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// imageUnknown is the reason of a container whose image nothing stands for.
const imageUnknown = "ImageUnknown"

// plan makes the pod's containers, without starting any.
func (p *pod) plan(obj *corev1.Pod, resumed bool) error {
	var members []*container
	var unknown error
	add := func(spec corev1.Container, k kind) {
		image, err := p.s.cfg.Images.Find(spec.Image)
		unknown = errors.Join(unknown, err)
		if image.Gateway && k == appKind {
			k = gatewayKind
			if spec.ReadinessProbe == nil {
				spec.ReadinessProbe = proxySpec().ReadinessProbe
			}
		}
		members = append(members, newContainer(p, obj, spec, k, image, resumed))
	}
	sidecar, err := p.s.sidecar(p.ps.watch, obj)
	if err != nil {
		return err
	}
	if sidecar {
		members = append(members, newContainer(p, obj, proxySpec(), proxyKind, Image{}, resumed))
	}
	for _, spec := range obj.Spec.InitContainers {
		if spec.RestartPolicy != nil && *spec.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(spec, sidecarKind)
		} else {
			add(spec, initKind)
		}
	}
	for _, spec := range obj.Spec.Containers {
		if spec.Name != ProxyContainer || !sidecar {
			add(spec, appKind)
		}
	}
	p.mu.Lock()
	p.members = members
	p.mu.Unlock()
	return unknown
}

// cannotStart says why in the pod's status. A pod that is to be restarted waits, as it would for an image
// that cannot be pulled; another one failed.
func (p *pod) cannotStart(obj *corev1.Pod, err error) {
	reason := "CannotStart"
	if e := (*UnknownImageError)(nil); errors.As(err, &e) {
		reason = imageUnknown
	}
	never := restartPolicy(obj) == corev1.RestartPolicyNever
	for _, c := range p.all() {
		if c.kind == proxyKind || !never {
			c.wait(reason, err.Error())
			continue
		}
		c.refuse(reason, err.Error())
	}
	if never {
		p.fail(reason, err.Error())
	}
	p.changed.ring()
}

// play runs the containers in their order: the proxy and other sidecars first,
// which stay until the end; the init containers one after another; then all
// others at once. It returns when all have ended.
func (p *pod) play(life, sandbox context.Context) {
	grace := func() time.Duration { return p.grace(sandbox) }
	// What serves the others ends after them.
	support, stopSupport := context.WithCancel(context.WithoutCancel(life))
	var sidecars, apps sync.WaitGroup
	defer sidecars.Wait()
	defer stopSupport()

	for _, c := range p.all() {
		switch c.kind {
		case proxyKind:
			if !p.captured(life, c) {
				return
			}
			sidecars.Go(func() { c.run(support, grace) })
			if !c.await(life, func(c *container) bool { return c.ready }) {
				return
			}
		case sidecarKind:
			sidecars.Go(func() { c.run(support, grace) })
			if !c.await(life, func(c *container) bool { return c.started }) {
				return
			}
		case initKind:
			if code := c.run(life, grace); life.Err() != nil {
				return
			} else if code != 0 {
				p.fail("InitContainerFailed", fmt.Sprintf("init container %s ended with %d", c.spec.Name, code))
				return
			}
		}
	}
	p.mu.Lock()
	p.initial = true
	p.mu.Unlock()
	p.changed.ring()
	for _, c := range p.all() {
		if c.kind == appKind || c.kind == gatewayKind {
			apps.Go(func() { c.run(life, grace) })
		}
	}
	apps.Wait()
}
