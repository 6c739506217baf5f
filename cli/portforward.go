package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/klog/v2"

	"hasp/cluster"
	"hasp/deploy"
)

const (
	adminPort    = 15000            // of the control plane, on its pod's loopback
	adminTimeout = 10 * time.Second // for one answer
	maxAdmin     = int64(256) << 20 // bytes of an answer; each proxy has a row
)

// controlPlaneStatus asks one pod of the control plane. Its admin port is on the
// pod's loopback, which the API server reaches for whoever may port-forward.
func controlPlaneStatus(ctx context.Context, rc *rest.Config, pod string) (cluster.Status, error) {
	var s cluster.Status
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	err := forward(ctx, rc, deploy.Namespace, pod, adminPort, func(address string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/status", nil)
		if err != nil {
			return err
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body := io.LimitReader(resp.Body, maxAdmin)
		if resp.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(io.LimitReader(body, 1<<10))
			return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
		}
		return json.NewDecoder(body).Decode(&s)
	})
	if err != nil {
		return s, fmt.Errorf("ask pod %s/%s: %w", deploy.Namespace, pod, err)
	}
	return s, nil
}

// forward a port of a pod to a free one on 127.0.0.1 while use runs.
func forward(ctx context.Context, rc *rest.Config, namespace, pod string, port int, use func(address string) error) error {
	address, stop, err := openForward(ctx, rc, namespace, pod, port)
	if err != nil {
		return err
	}
	defer stop()
	return use(address)
}

// openForward forwards a port of a pod to a free one on 127.0.0.1, until it is
// stopped or ctx ends.
func openForward(ctx context.Context, rc *rest.Config, namespace, pod string, port int) (address string, stop func(), err error) {
	transport, upgrader, err := spdy.RoundTripperFor(rc)
	if err != nil {
		return "", nil, err
	}
	base, _, err := rest.DefaultServerUrlFor(rc)
	if err != nil {
		return "", nil, err
	}
	target := base.JoinPath("api", "v1", "namespaces", url.PathEscape(namespace), "pods", url.PathEscape(pod), "portforward")
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target)
	// A connection that we close while its answer still comes is no error to tell of.
	ctx, cancel := context.WithCancel(klog.NewContext(ctx, klog.Logger{}))
	ready := make(chan struct{})
	f, err := portforward.NewOnAddressesWithContext(ctx, dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", port)}, ready, io.Discard, io.Discard)
	if err != nil {
		cancel()
		return "", nil, err
	}
	done := make(chan error, 1)
	go func() { done <- f.ForwardPorts() }()
	select {
	case err := <-done:
		cancel()
		if err == nil {
			err = ctx.Err()
		}
		return "", nil, err
	case <-ready:
	}
	stop = func() { cancel(); <-done }
	ports, err := f.GetPorts()
	if err != nil {
		stop()
		return "", nil, err
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local), stop, nil
}
