package envtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"

	"hasp/cluster"
)

// replica is a control plane in this process, as its ServiceAccount.
type replica struct {
	name string
	cfg  cluster.Config
	stop context.CancelFunc
	done chan error
}

// begin starts one; ready waits for it.
func begin(t *testing.T, name string, change func(*cluster.Config)) *replica {
	t.Helper()
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	r := &replica{name: name, done: make(chan error, 1), cfg: cluster.Config{
		API: account(t), Pod: name, Drain: 100 * time.Millisecond,
		Listeners: cluster.Listeners{XDS: listen(), Webhook: listen(), Health: listen(), Metrics: listen(), Admin: listen()},
		Log:       slog.New(slog.NewTextHandler(t.Output(), nil)).With("replica", name),
	}}
	if change != nil {
		change(&r.cfg)
	}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	go func() { r.done <- cluster.Run(ctx, r.cfg) }()
	t.Cleanup(func() { r.end(t) })
	return r
}

// end stops it and waits for that; a second time does nothing.
func (r *replica) end(t *testing.T) {
	t.Helper()
	if r.done == nil {
		return
	}
	r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			t.Errorf("%s: %v", r.name, err)
		}
	case <-time.After(patience):
		t.Errorf("%s does not end", r.name)
	}
	r.done = nil
}

func (r *replica) get(ln net.Listener, path string) (int, string, error) {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := c.Get("http://" + ln.Addr().String() + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func (r *replica) ready(t *testing.T) *replica {
	t.Helper()
	eventually(t, r.name+" is ready", func() (bool, error) {
		code, text, err := r.get(r.cfg.Listeners.Health, "/healthz/ready")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("%d %s", code, text)
		}
		return err == nil, err
	})
	return r
}

func (r *replica) status(t *testing.T) cluster.Status {
	t.Helper()
	var s cluster.Status
	_, text, err := r.get(r.cfg.Listeners.Admin, "/status")
	if err == nil {
		err = json.Unmarshal([]byte(text), &s)
	}
	if err != nil {
		t.Fatal(err, text)
	}
	return s
}

// leads waits until it does.
func (r *replica) leads(t *testing.T) *replica {
	t.Helper()
	eventually(t, r.name+" leads", func() (bool, error) {
		_, text, err := r.get(r.cfg.Listeners.Metrics, "/metrics")
		return strings.Contains(text, "\nhasp_leader 1\n"), err
	})
	return r
}

// serve makes the Service lead to this replica's webhooks, and waits until the
// API server reaches them and believes them.
func (r *replica) serve(t *testing.T) *replica {
	t.Helper()
	port := int32(r.cfg.Listeners.Webhook.Addr().(*net.TCPAddr).Port)
	body := fmt.Appendf(nil, `{"spec":{"ports":[{"name":"https-webhook","port":%d}]}}`, port)
	if _, err := env.client.CoreV1().Services(cluster.Namespace).Patch(t.Context(), cluster.Service, types.MergePatchType, body, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	// The leader may write its caBundle at the same time.
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		hooks := env.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
		c, err := hooks.Get(t.Context(), cluster.ValidatingWebhooks, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for i := range c.Webhooks {
			c.Webhooks[i].ClientConfig.Service.Port = &port
		}
		_, err = hooks.Update(t.Context(), c, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		hooks := env.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
		c, err := hooks.Get(t.Context(), cluster.MutatingWebhooks, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for i := range c.Webhooks {
			c.Webhooks[i].ClientConfig.Service.Port = &port
		}
		_, err = hooks.Update(t.Context(), c, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the API server reaches "+r.name, func() (bool, error) {
		out, err := kubectl(t, probe, "apply", "--dry-run=server", "-f", "-")
		if err != nil {
			err = fmt.Errorf("%s", out)
		}
		return err == nil, err
	})
	return r
}

// probe is an object that every replica lets in.
const probe = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: probe, namespace: default}
spec: {host: probe}
`
