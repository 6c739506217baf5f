package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"hasp/control"
	"hasp/deploy"
	"hasp/local"
	"hasp/truth"
)

// viewsTimeout is for one answer; what-if may take longest.
const viewsTimeout = time.Minute

// viewClient asks a running control plane for its views of the facts. Close it.
type viewClient struct {
	// where says whose views they are, for errors: "the mesh in DIR".
	where string
	base  string // http://HOST
	http  *http.Client
	stop  func()
}

// views of the mesh that a question is about: the cluster of the flags, else of
// KUBECONFIG, else the mesh on this machine, else the cluster of kubectl's usual
// kubeconfig. ctx is that of all questions.
func views(ctx context.Context, e *env, target *clusterFlags) (*viewClient, error) {
	if target.named() || e.foreignKubeconfig() {
		return clusterViews(ctx, e, target)
	}
	dir := absolute(e.Dir, e.state)
	switch _, err := local.Find(dir); {
	case errors.Is(err, local.ErrNotRunning) && e.Config.Kubeconfig == "" && e.kubectlsOwn() != "":
		return clusterViews(ctx, e, target)
	case errors.Is(err, local.ErrNotRunning):
		return nil, fmt.Errorf("%w; for a cluster set KUBECONFIG or give --kubeconfig", err)
	case err != nil:
		return nil, err
	}
	return &viewClient{where: "the mesh in " + dir, base: "http://admin", http: local.Admin(dir), stop: func() {}}, nil
}

// clusterViews are those of one replica that is ready: each knows what all
// proxies report.
func clusterViews(ctx context.Context, e *env, target *clusterFlags) (*viewClient, error) {
	rc, err := target.config(e)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(rc)
	if err != nil {
		return nil, err
	}
	pods, err := client.CoreV1().Pods(deploy.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=istiod"})
	if err != nil {
		return nil, fmt.Errorf("list the control plane's pods: %w", err)
	}
	var failures []error
	for _, p := range pods.Items {
		if p.DeletionTimestamp != nil || !podReady(&p) {
			continue
		}
		address, stop, err := openForward(ctx, rc, deploy.Namespace, p.Name, adminPort)
		if err != nil {
			failures = append(failures, fmt.Errorf("forward a port of pod %s/%s: %w", deploy.Namespace, p.Name, err))
			continue
		}
		return &viewClient{
			where: "pod " + deploy.Namespace + "/" + p.Name, base: "http://" + address, stop: stop,
			http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		}, nil
	}
	if len(failures) > 0 {
		return nil, errors.Join(failures...)
	}
	return nil, fmt.Errorf("no control plane is ready in %s of %s; hasp check says what is wrong, hasp install installs one", deploy.Namespace, rc.Host)
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// Close gives back what the questions needed.
func (v *viewClient) Close() { v.stop() }

// errUnknown is the answer about something that the control plane does not know
// or no longer.
type errUnknown struct{ text string }

func (e errUnknown) Error() string { return e.text }

// Facts are what all the views are views of.
func (v *viewClient) Facts(ctx context.Context) (*truth.Facts, error) {
	return get[*truth.Facts](ctx, v, "/facts", nil)
}

// Links of a workload, or all of them when it is empty.
func (v *viewClient) Links(ctx context.Context, workload string) ([]truth.Link, error) {
	q := url.Values{}
	if workload != "" {
		q.Set("workload", workload)
	}
	return get[[]truth.Link](ctx, v, "/connections", q)
}

// Plaintext is the ledger of who speaks it.
func (v *viewClient) Plaintext(ctx context.Context) (*truth.PlainLedger, error) {
	return get[*truth.PlainLedger](ctx, v, "/plaintext", nil)
}

// Why is the post-mortem of a connection.
func (v *viewClient) Why(ctx context.Context, id string) (*truth.Postmortem, error) {
	return get[*truth.Postmortem](ctx, v, "/why", url.Values{"id": {id}})
}

// WhatIf asks what would become of everybody if a candidate, manifests as YAML,
// were applied or, with remove, deleted. Objects that do not say their namespace
// are in the given one.
func (v *viewClient) WhatIf(ctx context.Context, manifests []byte, namespace string, remove bool) (*truth.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, viewsTimeout)
	defer cancel()
	q := url.Values{"namespace": {namespace}}
	if remove {
		q.Set("delete", "true")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.base+"/what-if?"+q.Encode(), bytes.NewReader(manifests))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/yaml")
	var a truth.Answer
	return &a, v.do(req, &a)
}

// Events tells the version of the facts whenever it changes, some times a second
// at most. The channel is closed when the control plane ends the stream or ctx
// ends; a version that nobody took is replaced by the next.
func (v *viewClient) Events(ctx context.Context) (<-chan uint64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.base+"/events", nil)
	if err != nil {
		return nil, err
	}
	resp, err := v.open(req)
	if err != nil {
		return nil, err
	}
	out := make(chan uint64, 1)
	go func() {
		defer close(out)
		defer resp.Body.Close()
		// A line is "event: facts", "data: VERSION", a comment or empty.
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data:")
			if !ok {
				continue
			}
			version, err := strconv.ParseUint(strings.TrimSpace(data), 10, 64)
			if err != nil {
				continue
			}
			select {
			case <-out:
			default:
			}
			out <- version
		}
	}()
	return out, nil
}

func get[T any](ctx context.Context, v *viewClient, path string, q url.Values) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, viewsTimeout)
	defer cancel()
	var out T
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.base+path+"?"+q.Encode(), nil)
	if err != nil {
		return out, err
	}
	err = v.do(req, &out)
	return out, err
}

func (v *viewClient) do(req *http.Request, into any) error {
	resp, err := v.open(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAdmin)).Decode(into); err != nil {
		return fmt.Errorf("read what %s answers to %s: %w", v.where, req.URL.Path, err)
	}
	return nil
}

// viewVersion is a header of every view, also of a refusal.
const viewVersion = control.VersionHeader

// open a view; its body is the caller's to close.
func (v *viewClient) open(req *http.Request) (*http.Response, error) {
	resp, err := v.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", v.where, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	said := strings.TrimSpace(string(text))
	switch {
	case resp.StatusCode == http.StatusNotFound && resp.Header.Get(viewVersion) == "":
		return nil, fmt.Errorf("%s is of a version that has no %s: hasp down and hasp up, on a cluster hasp install, bring this one's", v.where, req.URL.Path)
	case resp.StatusCode == http.StatusNotFound:
		return nil, errUnknown{said}
	case resp.StatusCode == http.StatusBadRequest && said != "":
		return nil, errors.New(said)
	}
	return nil, fmt.Errorf("ask %s: %s: %s", v.where, resp.Status, said)
}
