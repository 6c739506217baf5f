package sandbox

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// firstProbe is how soon a program that has just started is asked again.
const firstProbe = 10 * time.Millisecond

// soon is how long to wait before a program that has been starting since begin
// is asked again: an eighth of the time it took so far, at most the probe's
// period. So a pod is ready when it is, and one that never will be is not asked
// too often.
func soon(begin time.Time, period time.Duration) time.Duration {
	return min(max(firstProbe, time.Since(begin)/8), period)
}

// probe asks the running container how it is, until ctx ends: whether it
// started, then whether it is ready and alive. One that does not start, or is
// not alive any more, is reported to sick.
func (c *container) probe(ctx context.Context, sick chan<- string) {
	if p := c.spec.StartupProbe; p != nil {
		if !c.startup(ctx, p, sick) {
			return
		}
		c.set(func() { c.started, c.ready = true, c.spec.ReadinessProbe == nil })
	}
	var both sync.WaitGroup
	defer both.Wait()
	if p := c.spec.ReadinessProbe; p != nil {
		both.Go(func() { c.readiness(ctx, p) })
	}
	if p := c.spec.LivenessProbe; p != nil {
		both.Go(func() { c.liveness(ctx, p, sick) })
	}
}

func (c *container) startup(ctx context.Context, p *corev1.Probe, sick chan<- string) bool {
	if !pause(ctx, seconds(p.InitialDelaySeconds, 0)) {
		return false
	}
	begin, period := time.Now(), seconds(p.PeriodSeconds, 10)
	deadline := begin.Add(period * time.Duration(cmp.Or(p.FailureThreshold, 3)))
	for {
		err := c.ask(ctx, p)
		if err == nil {
			return true
		}
		if ctx.Err() == nil && time.Now().After(deadline) {
			report(sick, "startup probe: "+err.Error())
			return false
		}
		if !pause(ctx, soon(begin, period)) {
			return false
		}
	}
}

func (c *container) readiness(ctx context.Context, p *corev1.Probe) {
	if !pause(ctx, seconds(p.InitialDelaySeconds, 0)) {
		return
	}
	begin, period := time.Now(), seconds(p.PeriodSeconds, 10)
	ready, was := false, false // now; ever
	var good, bad int32
	for {
		err := c.ask(ctx, p)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			good, bad = good+1, 0
		} else {
			good, bad = 0, bad+1
		}
		now := ready
		if good >= cmp.Or(p.SuccessThreshold, 1) {
			now = true
		} else if bad >= cmp.Or(p.FailureThreshold, 3) {
			now = false
		}
		if now != ready {
			ready = now
			c.set(func() { c.ready = ready })
		}
		was = was || ready
		wait := period
		if !was {
			wait = soon(begin, period)
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

func (c *container) liveness(ctx context.Context, p *corev1.Probe, sick chan<- string) {
	if !pause(ctx, seconds(p.InitialDelaySeconds, 0)) {
		return
	}
	var bad int32
	for pause(ctx, seconds(p.PeriodSeconds, 10)) {
		err := c.ask(ctx, p)
		if err == nil || ctx.Err() != nil {
			bad = 0
			continue
		}
		if bad++; bad >= cmp.Or(p.FailureThreshold, 3) {
			report(sick, "liveness probe: "+err.Error())
			return
		}
	}
}

func report(sick chan<- string, why string) {
	select {
	case sick <- why:
	default:
	}
}

func seconds(n, otherwise int32) time.Duration {
	return time.Duration(cmp.Or(n, otherwise)) * time.Second
}

// ask once. Network probes come from inside the pod's own namespace, past its
// sidecar, so that they work whatever the sidecar requires of callers.
func (c *container) ask(ctx context.Context, p *corev1.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, seconds(p.TimeoutSeconds, 1))
	defer cancel()
	switch {
	case p.HTTPGet != nil:
		return c.askHTTP(ctx, p.HTTPGet)
	case p.TCPSocket != nil:
		conn, err := c.dial(ctx, p.TCPSocket.Host, p.TCPSocket.Port)
		if err != nil {
			return err
		}
		return conn.Close()
	case p.Exec != nil:
		return c.askExec(ctx, p.Exec.Command)
	}
	return errors.New("its kind is not supported here: only httpGet, tcpSocket and exec are")
}

// dial a port of the pod, by number or name.
func (c *container) dial(ctx context.Context, host string, port intstr.IntOrString) (net.Conn, error) {
	n := port.IntValue()
	if port.Type == intstr.String && n == 0 {
		for _, p := range c.spec.Ports {
			if p.Name == port.StrVal {
				n = int(p.ContainerPort)
			}
		}
	}
	if n <= 0 || n > 65535 {
		return nil, fmt.Errorf("the container has no port %q", port.String())
	}
	c.p.mu.Lock()
	network, ip := c.p.net, c.p.ip4
	c.p.mu.Unlock()
	return network.dial(ctx, net.JoinHostPort(cmp.Or(host, ip), strconv.Itoa(n)))
}

// maxProbeBody is how much of an answer is read: enough to be polite.
const maxProbeBody = 10 << 10

func (c *container) askHTTP(ctx context.Context, get *corev1.HTTPGetAction) error {
	scheme := "http"
	if get.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	path := get.Path
	if path == "" || path[0] != '/' {
		path = "/" + path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+cmp.Or(get.Host, "localhost")+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "kube-probe/hasp")
	for _, h := range get.HTTPHeaders {
		req.Header.Add(h.Name, h.Value)
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			req.Host = h.Value
		}
	}
	t := &http.Transport{
		DisableKeepAlives: true,
		// As a kubelet: the pod is asked for its health, not for who it is.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return c.dial(ctx, get.Host, get.Port)
		},
	}
	defer t.CloseIdleConnections()
	client := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxProbeBody)
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("HTTP status %s", resp.Status)
	}
	return nil
}

// askExec runs a command with the container's files, network and environment,
// but in a process namespace of its own.
func (c *container) askExec(ctx context.Context, command []string) error {
	if len(command) == 0 {
		return errors.New("the command is empty")
	}
	n, err := c.prepare(ctx)
	if err != nil {
		return err
	}
	defer n.close()
	if n.path, err = lookPath(command[0], c.p.s.cfg.Path); err != nil {
		return err
	}
	n.argv = command
	p, err := n.start()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.Kill() })
	defer stop()
	state, err := p.Wait()
	if err != nil {
		return err
	}
	if code := exitCode(state); code != 0 {
		return fmt.Errorf("the command ended with %d", code)
	}
	return nil
}
